/**
 * Looks for a key of a snapshot that a server has already, before any is restored.
 *
 * WHY beforehand. RESTORE would say BUSYKEY all the same, but in the middle: with some keys restored, and
 * without saying which key it was.
 */
import type { Slice } from "../base/bytes.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import type { Connection } from "../link/connection.ts";
import { KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";
import type { Node } from "./restore-nodes.ts";
import { slotOf } from "./restore-slots.ts";
import { pushAll, type Snapshot } from "./restore-snapshot.ts";

export type Conflict = { readonly key: Uint8Array; readonly database: number };

type Options = {
  readonly pipe: KeyPipeOptions;
  readonly databases?: ReadonlyMap<number, number> | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** The first one of them. The servers have database 0 selected, before and behind. */
export async function findConflict(
  snapshot: Snapshot,
  nodes: readonly Node[],
  { pipe, databases, signal }: Options,
): Promise<Conflict | undefined> {
  const names = new KeyNames(databases);
  let found: Conflict | undefined;
  await pushAll(snapshot, new KeyPipe(names, pipe), async () => {
    signal?.throwIfAborted();
    const asked = names.take();
    if (found === undefined) found = await firstThere(asked, nodes);
  });
  return found;
}

async function firstThere(
  asked: readonly Conflict[],
  nodes: readonly Node[],
): Promise<Conflict | undefined> {
  let selected = 0;
  const [first] = nodes as readonly [Node];
  // One after the other in each connection, so what is selected is so for the keys behind it.
  const replies = asked.map(async ({ key, database }) => {
    const { control } = first.slots === undefined ? first : nodeOf(key, nodes);
    const selecting = database === selected ? undefined : select(control, database);
    selected = database;
    const reply = control.ask("EXISTS", key);
    await selecting;
    return await reply;
  });
  if (selected !== 0) replies.push(select(first.control, 0));
  const counts = await Promise.all(replies);
  return asked.find((_, i) => {
    const reply = counts[i];
    return reply?.type === "integer" && Number(reply.value) > 0;
  });
}

function select(control: Connection, database: number) {
  return control.ask("SELECT", database);
}

/** In a cluster, whose only database is 0. */
function nodeOf(key: Uint8Array, nodes: readonly Node[]): Node {
  const slot = slotOf(key);
  const has = ({ slots = [] }: Node) => slots.some(([from, to]) => slot >= from && slot <= to);
  return nodes.find(has) ?? (nodes[0] as Node);
}

class KeyNames implements KeySink {
  readonly #databases: ReadonlyMap<number, number> | undefined;
  #names: Conflict[] = [];

  constructor(databases: ReadonlyMap<number, number> | undefined) {
    this.#databases = databases;
  }

  take(): Conflict[] {
    const names = this.#names;
    this.#names = [];
    return names;
  }

  begin({ key, database }: KeyHead): void {
    this.#names.push({ key: copyOf(key), database: this.#databases?.get(database) ?? database });
  }

  library(): void {}
  moduleAux(): void {}
  accept(): void {}
  finish(): void {}
}

function copyOf({ bytes, start, end }: Slice): Uint8Array {
  return bytes.slice(start, end);
}
