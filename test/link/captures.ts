/** What real servers sent to a replica, byte for byte: `repl/` of the fixtures. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkout } from "../support/checkout.ts";
import { serverIds } from "../support/servers.ts";

export type Capture = {
  /** As in "redis-7.0/diskless". */
  readonly id: string;
  /** What the server said in answer to PSYNC, up to the snapshot. */
  readonly replies: readonly Uint8Array[];
  readonly snapshot: Uint8Array;
  readonly mark: string | undefined;
  readonly parts: readonly CapturedPart[];
};

export type CapturedPart = {
  readonly bytes: Uint8Array;
  readonly replicationId: string;
  readonly startOffset: number;
  readonly endOffset: number;
  /** What the server said to PSYNC, of a part that came over a new connection. */
  readonly reply: Uint8Array | undefined;
};

const folders = [join(checkout, "test/fixtures"), join(checkout, "../shared/fixtures")];

type Said = { readonly from: string; readonly data: string };
type Entry = {
  readonly kind: string;
  readonly name: string;
  readonly handshake: string;
  readonly snapshot: string;
  readonly eofMark?: string;
  readonly parts: readonly {
    readonly file: string;
    readonly handshake?: string;
    readonly id: string;
    readonly startOffset: number;
    readonly endOffset: number;
  }[];
};

/** All that can be read here, but for those made with SYNC, which this program does not send. */
export function captures(): Capture[] {
  return serverIds.flatMap((server) => {
    const index = readFileSync(join(checkout, "test/fixtures", server, "index.json"), "utf8");
    const { fixtures } = JSON.parse(index) as { fixtures: readonly Entry[] };
    return fixtures
      .filter(({ kind, name }) => kind === "repl" && name !== "sync")
      .flatMap((entry) => {
        const folder = folders.find((path) => existsSync(join(path, server, entry.snapshot)));
        return folder === undefined ? [] : [toCapture(join(folder, server), server, entry)];
      });
  });
}

export const noCaptures: string | false =
  captures().length === 0 && "no captures of replication in test/fixtures or ../shared/fixtures";

function toCapture(folder: string, server: string, entry: Entry): Capture {
  const said = readReplies(join(folder, entry.handshake));
  const replies = said.slice(said.findIndex((reply) => reply.includes("RESYNC")));
  // Some of the captures have it with the reply to PSYNC, some with the snapshot.
  if (!replies.some((reply) => reply.includes("$"))) {
    replies.push(Buffer.from(`$${readFileSync(join(folder, entry.snapshot)).length}\r\n`));
  }
  const parts = entry.parts.map((part) => ({
    bytes: readFileSync(join(folder, part.file)),
    replicationId: part.id,
    startOffset: part.startOffset,
    endOffset: part.endOffset,
    reply: part.handshake ? readReplies(join(folder, part.handshake)).at(-1) : undefined,
  }));
  const snapshot = readFileSync(join(folder, entry.snapshot));
  return { id: `${server}/${entry.name}`, replies, snapshot, mark: entry.eofMark, parts };
}

function readReplies(path: string): Buffer[] {
  const said = JSON.parse(readFileSync(path, "utf8")) as readonly Said[];
  return said
    .filter(({ from }) => from === "primary")
    .map(({ data }) => Buffer.from(data, "base64"));
}
