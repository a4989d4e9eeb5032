import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export type KeyPair = { readonly cert: string; readonly key: string };

/** Paths of PEM files. */
export type Certificates = {
  readonly ca: string;
  /** For "server.test" and 127.0.0.1. */
  readonly server: KeyPair;
  readonly client: KeyPair;
  /** Another authority, and a client certificate of it. */
  readonly otherCa: string;
  readonly stranger: KeyPair;
};

/** Why no certificates can be made here, or false. */
export const noOpenssl: string | false = (() => {
  try {
    execFileSync("openssl", ["version"], { stdio: "ignore" });
    return false;
  } catch {
    return "openssl is not installed";
  }
})();

/** Makes certificates that are good for a day. */
export function makeCertificates(folder: string): Certificates {
  const openssl = (...args: string[]) =>
    execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const authority = (name: string): KeyPair => {
    const pair = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
    openssl(
      "req",
      "-x509",
      ...curve,
      "-subj",
      `/CN=${name}`,
      "-days",
      "1",
      "-keyout",
      pair.key,
      "-out",
      pair.cert,
    );
    return pair;
  };
  const issue = (ca: KeyPair, name: string): KeyPair => {
    const pair = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
    const request = join(folder, `${name}.csr`);
    const extensions = join(folder, "names");
    writeFileSync(extensions, "subjectAltName=DNS:server.test,IP:127.0.0.1\n");
    openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", pair.key, "-out", request);
    openssl(
      "x509",
      "-req",
      "-in",
      request,
      "-CA",
      ca.cert,
      "-CAkey",
      ca.key,
      "-CAcreateserial",
      "-days",
      "1",
      "-extfile",
      extensions,
      "-out",
      pair.cert,
    );
    return pair;
  };
  const [ca, other] = [authority("ca"), authority("other")];
  return {
    ca: ca.cert,
    server: issue(ca, "server"),
    client: issue(ca, "client"),
    otherCa: other.cert,
    stranger: issue(other, "stranger"),
  };
}
