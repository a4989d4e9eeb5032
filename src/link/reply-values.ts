import { toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { Reply } from "../codec/resp/reply.ts";

/** A string of a reply, one character a byte; undefined where it is null. */
export function textOf(reply: Reply | undefined): string | undefined {
  switch (reply?.type) {
    case "simple":
    case "bulk":
    case "verbatim":
      return toLatin1(reply.bytes);
    case "integer":
      return String(reply.value);
    case "null":
      return undefined;
    default:
      throw unexpected("a string", reply);
  }
}

/** The items of an array, or of what stands in its place in RESP3. */
export function itemsOf(reply: Reply | undefined): readonly Reply[] {
  if (reply?.type === "array" || reply?.type === "set") return reply.items;
  if (reply?.type === "map") return reply.pairs.flat();
  throw unexpected("an array", reply);
}

/** An array of names and values. */
export function recordOf(reply: Reply | undefined): ReadonlyMap<string, string> {
  const items = itemsOf(reply);
  const record = new Map<string, string>();
  for (let at = 0; at + 1 < items.length; at += 2) {
    const value = items[at + 1] as Reply;
    const isText = value.type === "bulk" || value.type === "simple" || value.type === "integer";
    if (isText) record.set(textOf(items[at]) ?? "", textOf(value) ?? "");
  }
  return record;
}

/** A number that is an offset, a port, a count; undefined where it is none. */
export function numberOf(text: string | undefined): number | undefined {
  const value = /^\d{1,16}$/.test(text ?? "") ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : undefined;
}

function unexpected(wanted: string, reply: Reply | undefined): Failure {
  const found = `a reply of type ${reply?.type ?? "nothing"} where ${wanted} must be`;
  return new Failure("PROTOCOL_ERROR", `Cannot understand the server: ${found}`);
}
