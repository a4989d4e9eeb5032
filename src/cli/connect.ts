import { Failure } from "../base/errors.ts";
import { type Address, credentialsOf } from "../link/address.ts";
import { type Credentials, Secret } from "../link/secret.ts";
import type { TlsOptions } from "../link/tls.ts";

/** How to log in to a server, and how to speak TLS with it. */
export type ConnectFlags = {
  readonly user?: string;
  readonly passwordFile?: string;
  readonly passwordCommand?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly sni?: string;
};

/** @throws Failure USAGE */
export function readConnect(
  address: Address,
  { user, passwordFile, passwordCommand, cacert, cert, key, sni }: ConnectFlags,
): { readonly credentials: Credentials | undefined; readonly tls: TlsOptions | undefined } {
  if (passwordFile !== undefined && passwordCommand !== undefined) {
    throw new Failure("USAGE", "Cannot take the password from a file and from a command");
  }
  const password =
    passwordFile !== undefined
      ? Secret.file(passwordFile)
      : passwordCommand !== undefined
        ? Secret.command(passwordCommand)
        : undefined;
  const given = { ...(user !== undefined && { user }), ...(password && { password }) };
  const tls = { caFile: cacert, certFile: cert, keyFile: key, serverName: sni };
  return {
    credentials: credentialsOf(address.login, given),
    tls: address.isTls ? tls : undefined,
  };
}
