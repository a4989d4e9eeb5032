/**
 * Who had which slots of a cluster when, as a repository keeps it.
 *
 * WHY. Each shard of a cluster is an instance of its own, with its own log and sets. Which of them a key
 * belonged to at a moment, no log says; so every change of the slots is an object. Without them a
 * restore could not tell a key that had moved away from one that was written there.
 *
 * FORMAT. `clusters/NAME/slots/MS-SUM.json`, a document (document.ts): `MS` is the largest `ms` in it, `SUM`
 * the first 16 digits of the SHA-256 of what `formatDocument()` is given, as JSON.
 *
 *   format     1
 *   windowMs   it has become so within that many milliseconds before; null where that is not known
 *   shards     [{ key, slots: [[first, last] …], ms, position: null | { replicationId, offset, ms } } …]
 *
 *   key        of the shard, whose instance is `NAME.KEY`
 *   ms         when it was seen that the slots are so, by the clock of the shard's source
 *   position   up to where the shard's log went then; null where there was none
 *
 * INVARIANTS
 *
 *   1. The name follows from what it says: to write it again is to write the same, so that no lease is
 *      needed, and nobody has to remember what was written.
 *   2. They are not expired: a change is some hundred bytes, and the state at a moment is the last one before.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { type Abortable, readAll, type Store } from "../store/store.ts";
import { formatDocument, parseDocument } from "./document.ts";
import { isInstanceName } from "./layout.ts";

export type SlotRange = readonly [first: number, last: number];

/** What one shard has at a moment. */
export type ShardSlots = {
  readonly key: string;
  readonly slots: readonly SlotRange[];
  readonly ms: number;
  readonly position: (Position & { readonly ms: number }) | null;
};

/** All shards, from a change on. */
export type SlotsChange = {
  readonly windowMs: number | null;
  readonly shards: readonly ShardSlots[];
};

const root = "clusters/";
/** A thousand shards, each with slots that lie scattered. */
const maxSlotsBytes = 8 * 2 ** 20;
const slotCount = 16_384;

const slot = z
  .int()
  .min(0)
  .max(slotCount - 1);
const count = z.int().min(0);
const change = z.object({
  format: z.literal(1),
  windowMs: z.nullable(count),
  shards: z
    .array(
      z.object({
        key: z.string().regex(/^[\w-]{1,64}$/),
        slots: z.array(z.tuple([slot, slot])),
        ms: count,
        position: z.nullable(
          z.object({
            replicationId: z.string().regex(/^[0-9a-f]{40}$/),
            offset: count,
            ms: count,
          }),
        ),
      }),
    )
    .min(1),
});

/** As the ids of a cluster's nodes are long, of which shards have their keys. */
export const maxShardKeyChars = 40;

/** The instance of a shard. */
export function shardInstance(cluster: string, key: string): string {
  return `${cluster}.${key}`;
}

/** The shard that an instance is of, if there is a cluster of that name; else it is one by itself. */
export function parseShardInstance(
  instance: string,
): { readonly cluster: string; readonly key: string } | undefined {
  const [, cluster, key] = /^(.+)\.([0-9a-f]{40})$/.exec(instance) ?? [];
  return cluster === undefined || key === undefined ? undefined : { cluster, key };
}

/** When it was seen, by the source that was seen last. */
export function seenMs({ shards }: SlotsChange): number {
  return shards.reduce((latest, { ms }) => Math.max(latest, ms), 0);
}

export function slotsObject(cluster: string, change: SlotsChange): string {
  const ms = String(seenMs(change)).padStart(13, "0");
  const sum = createHash("sha256")
    .update(JSON.stringify(fieldsOf(change)))
    .digest("hex");
  return `${slotsPrefix(cluster)}${ms}-${sum.slice(0, 16)}.json`;
}

function slotsPrefix(cluster: string): string {
  return `${root}${cluster}/slots/`;
}

/** Always in the same order, since a name is made of it. */
function fieldsOf({ windowMs, shards }: SlotsChange): Record<string, unknown> {
  const all = shards.map(({ key, slots, ms, position }) => {
    const at = position && {
      replicationId: position.replicationId,
      offset: position.offset,
      ms: position.ms,
    };
    return { key, slots, ms, position: at };
  });
  return { format: 1, windowMs, shards: all };
}

/** @throws Failure of the store */
export async function putSlots(
  store: Store,
  cluster: string,
  change: SlotsChange,
  { signal }: Abortable = {},
): Promise<void> {
  await store.put(slotsObject(cluster, change), formatDocument(fieldsOf(change)), { signal });
}

/** The names of all changes of a cluster that are there, as `slotsObject()` gives them; oldest first. */
export async function listSlots(
  store: Store,
  cluster: string,
  { signal }: Abortable = {},
): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of store.list(slotsPrefix(cluster), { signal })) {
    if (/\/\d{13}-[0-9a-f]{16}\.json$/.test(name)) names.push(name);
  }
  return names;
}

/** @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, OBJECT_MISSING */
export async function readSlots(
  store: Store,
  object: string,
  { signal }: Abortable = {},
): Promise<SlotsChange> {
  const bytes = await readAll(store, object, maxSlotsBytes, { signal });
  const parsed = change.safeParse(parseDocument(bytes, object));
  const found = parsed.success
    ? parsed.data.shards.some(({ slots }) => slots.some(([first, last]) => first > last))
      ? "a range of slots ends before it begins"
      : undefined
    : (parsed.error.issues[0]?.message ?? "it is something else");
  if (!parsed.success || found !== undefined) {
    throw new Failure("DATA_CORRUPT", `Cannot read "${object}": ${found}`);
  }
  const { windowMs, shards } = parsed.data;
  return { windowMs, shards };
}

/** The clusters that a repository has something of. */
export async function listClusters(store: Store, { signal }: Abortable = {}): Promise<string[]> {
  const names: string[] = [];
  for (;;) {
    const last = names.at(-1);
    // "0" is the character behind "/": all of a cluster's names are before it.
    const after = last === undefined ? {} : { startAfter: `${root}${last}0` };
    let found: string | undefined;
    for await (const { name } of store.list(root, { ...after, signal })) {
      found = name.split("/")[1];
      break;
    }
    if (found === undefined || !isInstanceName(found)) return names;
    names.push(found);
  }
}
