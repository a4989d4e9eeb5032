/**
 * Puts stream entries into nodes as servers do: up to 100 entries or 4,096 bytes each. The layout
 * of a node stands in `stream.ts`; the fields of its first entry are the master's, and entries with
 * the same fields in the same order have values only.
 */
import { fromLatin1 } from "../../base/bytes.ts";
import { type BackLengths, ListpackEncoder } from "./encode-listpack.ts";
import type { StreamId } from "./model.ts";

const maxEntries = 100;
const maxBytes = 4096;
const flagSameFields = 2;

export type NewEntry = {
  readonly id: StreamId;
  /** Names and values in turn. */
  readonly fields: readonly Uint8Array[];
};
export type NewNode = { readonly masterId: Uint8Array; readonly listpack: Uint8Array };

/** The nodes of a stream with these entries, whose ids ascend. */
export function encodeStreamNodes(entries: readonly NewEntry[], form: BackLengths): NewNode[] {
  const nodes: NewNode[] = [];
  for (let from = 0; from < entries.length; ) {
    const to = endOfNode(entries, from);
    nodes.push(encodeNode(entries.slice(from, to), form));
    from = to;
  }
  return nodes;
}

function endOfNode(entries: readonly NewEntry[], from: number): number {
  let bytes = 0;
  let to = from;
  while (to < entries.length && to - from < maxEntries && (to === from || bytes < maxBytes)) {
    for (const field of entries[to]?.fields ?? []) bytes += field.length + 2;
    to++;
  }
  return to;
}

function encodeNode(entries: readonly NewEntry[], form: BackLengths): NewNode {
  const encoder = new ListpackEncoder(form);
  const add = (bytes: Uint8Array) => encoder.element(bytes, 0, bytes.length);
  const [first] = entries;
  const { id: master, fields: firstFields } = first as NewEntry;
  const names = firstFields.filter((_, i) => i % 2 === 0);
  encoder.begin();
  encoder.integer(entries.length);
  encoder.integer(0);
  encoder.integer(names.length);
  for (const name of names) add(name);
  encoder.integer(0);
  for (const { id, fields } of entries) {
    const isSame =
      fields.length === firstFields.length &&
      names.every((name, i) => Buffer.compare(name, fields[2 * i] as Uint8Array) === 0);
    encoder.integer(isSame ? flagSameFields : 0);
    // Differences are modulo 2^64, as signed numbers.
    add(fromLatin1(BigInt.asIntN(64, id.ms - master.ms).toString()));
    add(fromLatin1(BigInt.asIntN(64, id.seq - master.seq).toString()));
    if (!isSame) encoder.integer(fields.length / 2);
    for (const [i, field] of fields.entries()) if (!isSame || i % 2 === 1) add(field);
    encoder.integer(isSame ? names.length + 3 : fields.length + 4);
  }
  const masterId = new Uint8Array(16);
  const view = new DataView(masterId.buffer);
  view.setBigUint64(0, master.ms);
  view.setBigUint64(8, master.seq);
  return { masterId, listpack: encoder.bytes.slice(0, encoder.finish()) };
}
