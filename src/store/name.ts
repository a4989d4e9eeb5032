import { Failure } from "../base/errors.ts";

/** The limit of S3 for a whole key, and of file systems for a name in a folder: bytes of UTF-8. */
export const maxNameBytes = 1024;
const maxPartBytes = 255;

// oxlint-disable-next-line no-control-regex -- why: these are the characters that it is about
const forbidden = /[\u0000-\u001f\u007f\\]/;
const surrogate = /[\ud800-\udfff]/;

/** @throws Failure USAGE */
export function checkName(name: string): void {
  const fault = faultOf(name);
  if (fault !== undefined) {
    throw new Failure("USAGE", `Cannot use ${JSON.stringify(name)} as a name: ${fault}`, {
      hint: "Names are parts with slashes between them; a part begins with no dot.",
    });
  }
}

/** A prefix is the beginning of a name, to any character. @throws Failure USAGE */
export function checkPrefix(prefix: string): void {
  if (prefix !== "") checkName(prefix.endsWith("/") ? prefix.slice(0, -1) : prefix);
}

export function isName(name: string): boolean {
  return faultOf(name) === undefined;
}

function faultOf(name: string): string | undefined {
  if (forbidden.test(name)) return "it has a backslash or a control character";
  if (!name.isWellFormed()) return "it is no valid Unicode";
  if (Buffer.byteLength(name) > maxNameBytes) return `it has more than ${maxNameBytes} bytes`;
  for (const part of name.split("/")) {
    if (part === "") return "a part is empty";
    if (part.startsWith(".")) return "a part begins with a dot";
    if (Buffer.byteLength(part) > maxPartBytes) return `a part has more than ${maxPartBytes} bytes`;
  }
  return undefined;
}

/** Byte order of UTF-8, as S3 lists. UTF-16 has the same, but for characters beyond 16 bits. */
export function compareNames(a: string, b: string): number {
  if (surrogate.test(a) || surrogate.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : a > b ? 1 : 0;
}
