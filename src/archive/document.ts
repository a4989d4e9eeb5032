/**
 * Small JSON objects that prove themselves: manifests, and the marks beside them.
 *
 * WHY. Everything else in a repository is under a checksum; a digit of a manifest that has flipped would
 * be another position, and believed.
 *
 * FORMAT. An indented JSON object in UTF-8 whose last member is `sum`:
 *
 *   … ,\n  "sum": "HEX"\n}\n        HEX: SHA-256 of all bytes before that comma
 *
 * so that anybody can read it, and check it with `head` and `sha256sum`.
 *
 * INVARIANT. Of an object that `formatDocument()` gave, every changed, missing or additional byte is
 * found. Every format to come keeps the sum, so that damage is never taken for a newer format.
 */
import { createHash } from "node:crypto";
import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";

/** More than any has. */
export const maxDocumentBytes = 64 * 1024;

const ending = /,\n {2}"sum": "([0-9a-f]{64})"\n\}\n$/;

export function formatDocument(fields: Readonly<Record<string, unknown>>): Uint8Array {
  const body = JSON.stringify(fields, null, 2).slice(0, -2);
  return Buffer.from(`${body},\n  "sum": "${sumOf(Buffer.from(body))}"\n}\n`);
}

/**
 * What a document holds, `sum` not included; whether its fields are right, the caller finds out.
 *
 * @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, naming the object
 */
export function parseDocument(bytes: Uint8Array, object: string): Record<string, unknown> {
  const fail = (found: string) =>
    new Failure("DATA_CORRUPT", `Cannot read "${object}": ${found}`, { offset: 0 });
  // One character a byte: what is counted is bytes.
  const text = toLatin1(bytes);
  const found = ending.exec(text);
  if (found === null) throw fail(`no sum at its end: it has ${bytes.length} bytes`);
  if (sumOf(bytes.subarray(0, found.index)) !== found[1]) throw fail("its sum is wrong");
  const value = parseJson(bytes);
  if (typeof value !== "object" || value === null) throw fail("it is no JSON object");
  const { sum: _, ...fields } = value as Record<string, unknown>;
  const { format } = fields;
  if (typeof format === "number" && format > 1) {
    throw new Failure("DATA_UNSUPPORTED", `Cannot read "${object}": it has format ${format}`);
  }
  return fields;
}

function sumOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    // The sum is right: somebody else wrote it, and wrote no JSON.
    return undefined;
  }
}
