/**
 * Looks for a key or a function library of a snapshot that a server has already, before any is restored.
 *
 * WHY beforehand. RESTORE would say BUSYKEY all the same, but in the middle: with some keys restored, and
 * without saying which key it was.
 */
import type { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { KeyHead, KeySink } from "../codec/rdb/key-sink.ts";
import { quote } from "../codec/rdb/target.ts";
import type { Connection } from "../link/connection.ts";
import { KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";
import type { Node } from "./restore-nodes.ts";
import { slotOf } from "./restore-slots.ts";
import { pushAll, type Snapshot } from "./restore-snapshot.ts";

type KeyName = { readonly key: Uint8Array; readonly database: number };
export type Conflict = KeyName | { readonly library: string };

type Options = {
  readonly pipe: KeyPipeOptions;
  readonly databases?: ReadonlyMap<number, number> | undefined;
  /** Whether keys that were in a slot are restored: of a shard, not all are. */
  readonly isWanted: (slot: number) => boolean;
  readonly signal?: AbortSignal | undefined;
};

/** The first one of them. The servers have database 0 selected, before and behind. */
export async function findConflict(
  snapshot: Snapshot,
  nodes: readonly Node[],
  { pipe, databases, isWanted, signal }: Options,
): Promise<Conflict | undefined> {
  const prefixBytes = pipe.prefix?.length ?? 0;
  const names = new KeyNames(databases, (key) => isWanted(slotOf(key, prefixBytes)));
  let found: Conflict | undefined;
  await pushAll(snapshot, new KeyPipe(names, pipe), async () => {
    signal?.throwIfAborted();
    const asked = names.take();
    found ??= await firstLibrary(names.takeLibraries(), nodes);
    found ??= await firstThere(asked, nodes);
  });
  return found;
}

async function firstLibrary(
  libraries: readonly string[],
  nodes: readonly Node[],
): Promise<Conflict | undefined> {
  for (const library of libraries) {
    for (const { control } of nodes) {
      const reply = await control.call("FUNCTION", "LIST", "LIBRARYNAME", library);
      // Servers before 7.0 have none.
      if (reply.type === "array" && reply.items.length > 0) return { library };
    }
  }
  return undefined;
}

async function firstThere(
  asked: readonly KeyName[],
  nodes: readonly Node[],
): Promise<KeyName | undefined> {
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

/** For a conflict that was found. */
export function conflictFailure(found: Conflict): Failure {
  const what =
    "library" in found
      ? `function library "${found.library}": the server`
      : `key ${quote(found.key)}: database ${found.database}`;
  return new Failure("TARGET_NOT_EMPTY", `Cannot restore ${what} has it`, {
    hint: "Nothing was restored. Say --conflict skip or overwrite, or put something in front of all keys: --prefix-add.",
  });
}

/** Keys that are there may have been, or may be of the restore that was cut off. */
export function cannotTell(nodes: readonly Node[]): Failure {
  const found = "it was cut off, and which keys were there before it cannot be told any more";
  const names = nodes.map(({ marker }) => marker).join(" ");
  return new Failure(
    "TARGET_NOT_EMPTY",
    `Cannot go on with a restore with --conflict fail: ${found}`,
    {
      hint: `Remove its keys and the marker (DEL ${names}) and repeat it; or, without the marker, with --conflict skip or overwrite.`,
    },
  );
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
  readonly #isWanted: (key: Uint8Array) => boolean;
  #names: KeyName[] = [];
  #libraries: string[] = [];

  constructor(
    databases: ReadonlyMap<number, number> | undefined,
    isWanted: (key: Uint8Array) => boolean,
  ) {
    this.#databases = databases;
    this.#isWanted = isWanted;
  }

  takeLibraries(): string[] {
    const libraries = this.#libraries;
    this.#libraries = [];
    return libraries;
  }

  take(): KeyName[] {
    const names = this.#names;
    this.#names = [];
    return names;
  }

  begin({ key, database }: KeyHead): void {
    const copy = copyOf(key);
    if (!this.#isWanted(copy)) return;
    this.#names.push({ key: copy, database: this.#databases?.get(database) ?? database });
  }

  library(code: Slice): void {
    const [name] = /(?<=^#!\S+\s.*?\bname=)\S+/.exec(code.latin1()) ?? [];
    if (name !== undefined) this.#libraries.push(name);
  }

  moduleAux(): void {}
  accept(): void {}
  finish(): void {}
}

function copyOf({ bytes, start, end }: Slice): Uint8Array {
  return bytes.slice(start, end);
}
