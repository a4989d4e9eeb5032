import { readFile } from "node:fs/promises";
import type { ConnectionOptions } from "node:tls";
import { Failure } from "../base/errors.ts";
import type { Secret } from "./secret.ts";

/** How to speak TLS. Files are read anew for each connection: certificates are rotated. */
export type TlsOptions = {
  /** Authorities that are trusted, in PEM; where it is not given, those that Node trusts. */
  readonly caFile?: string | undefined;
  /** What this side shows, in PEM. Both or none. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly keyPassphrase?: Secret | undefined;
  /** The name that the certificate must be for, where it is not the host's. */
  readonly serverName?: string | undefined;
  /** Takes any certificate: whoever sits in between then reads everything, the password too. */
  readonly allowUnverified?: boolean | undefined;
};

/** @throws Failure FILE_MISSING, FILE_FAILED, USAGE */
export async function readTlsOptions(
  options: TlsOptions,
  signal?: AbortSignal,
): Promise<ConnectionOptions> {
  const { caFile, certFile, keyFile, keyPassphrase, serverName } = options;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    const missing = certFile === undefined ? "its certificate" : "its key";
    throw new Failure("USAGE", `Cannot show a client certificate: ${missing} is not given`, {
      hint: "Give both --cert FILE and --key FILE.",
    });
  }
  return {
    ...(caFile !== undefined && { ca: await readPem(caFile) }),
    ...(certFile !== undefined && { cert: await readPem(certFile) }),
    ...(keyFile !== undefined && { key: await readPem(keyFile) }),
    ...(keyPassphrase && { passphrase: await keyPassphrase.reveal(signal) }),
    ...(serverName !== undefined && { servername: serverName }),
    rejectUnauthorized: options.allowUnverified !== true,
  };
}

async function readPem(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const found = isMissing ? "there is no such file" : (cause as Error).message;
    const code = isMissing ? "FILE_MISSING" : "FILE_FAILED";
    throw new Failure(code, `Cannot read "${path}" for TLS: ${found}`, { cause });
  }
}

type Trouble = readonly [found: string, hint: string];

const untrusted: Trouble = [
  "its certificate is not from an authority that is trusted here",
  "Name the authority that signed it: --cacert FILE.",
];
const expectsCertificate: Trouble = [
  "the server wants a client certificate",
  "Give one that it trusts: --cert FILE --key FILE.",
];
const speaksPlain: Trouble = [
  "the port does not speak TLS",
  "Write redis:// instead of rediss://, or use the tls-port.",
];

/** Errors of OpenSSL and Node: what was found, and what to do. */
const troubles: ReadonlyMap<string, Trouble> = new Map<string, Trouble>([
  ["DEPTH_ZERO_SELF_SIGNED_CERT", untrusted],
  ["SELF_SIGNED_CERT_IN_CHAIN", untrusted],
  ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", untrusted],
  ["UNABLE_TO_GET_ISSUER_CERT", untrusted],
  ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", untrusted],
  ["CERT_HAS_EXPIRED", ["its certificate has expired", "Renew it on the server."]],
  ["CERT_NOT_YET_VALID", ["its certificate is not valid yet", "Check the clocks of both sides."]],
  [
    "ERR_TLS_CERT_ALTNAME_INVALID",
    ["its certificate is for another name", "Say which name it has: --sni NAME."],
  ],
  ["ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", expectsCertificate],
  ["ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE", expectsCertificate],
  [
    "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA",
    [
      "the server does not trust the client certificate",
      "Give one from an authority in the server's tls-ca-cert-file.",
    ],
  ],
  ["ERR_SSL_WRONG_VERSION_NUMBER", speaksPlain],
  ["ERR_SSL_PACKET_LENGTH_TOO_LONG", speaksPlain],
  [
    "ERR_OSSL_X509_KEY_VALUES_MISMATCH",
    ["the key does not belong to the certificate", "Check --cert FILE and --key FILE."],
  ],
]);

/** What an error says about TLS, where it is about that. */
export function tlsFailure(verb: string, server: string, cause: unknown): Failure | undefined {
  const { code = "", message } = cause as { code?: string; message: string };
  const known = troubles.get(code);
  if (known === undefined && !/^ERR_(SSL|TLS|OSSL)_|^CERT_|_CERT/.test(code)) return undefined;
  const [found, hint] = known ?? [message, undefined];
  const text = `Cannot ${verb} ${server} over TLS: ${found}`;
  return new Failure("TLS_FAILED", text, { cause, ...(hint !== undefined && { hint }) });
}
