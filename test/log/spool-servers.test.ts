/** Spools made of what real servers sent to a replica: the same servers start on them as they are. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Slice } from "../../src/base/bytes.ts";
import { RecordScanner } from "../../src/codec/aof/framing.ts";
import { Spool } from "../../src/log/spool.ts";
import type { Batch } from "../../src/log/spool-log.ts";
import { checkout } from "../support/checkout.ts";
import { assertSameDump } from "../support/compare.ts";
import { parseLines } from "../support/dump.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, serverIds, startServer } from "../support/servers.ts";

type Capture = {
  readonly kind: string;
  readonly name: string;
  readonly snapshot: string;
  readonly parts: readonly {
    readonly file: string;
    readonly id: string | null;
    readonly startOffset: number;
  }[];
  readonly checkpoints: readonly { readonly offset: number; readonly expected: string }[];
};

const captures = join(checkout, "../shared/fixtures");
const notHere = !existsSync(captures) && "the captures are not in ../shared/fixtures";
const replicationId = "0123456789abcdef0123456789abcdef01234567";
/** Of them it is enough to know how many bytes they are. */
const notLogged = /^(ping|replconf)$/i;

for (const id of serverIds.filter((server) => server !== "redis-6.0")) {
  suite(`${id} starts on a spool of what it sent`, {
    skip: missingServers(id) || notHere,
  }, () => {
    for (const capture of notHere ? [] : read(id)) {
      test(capture.name, async () => {
        using dir = temporaryFolder();
        const segments = await record(id, capture, dir.path);
        const conf = { appendonly: "yes", "aof-load-truncated": "no" };
        await using server = await startServer(id, { dir: dir.path, conf });
        const expected = parseLines(load(id, capture.checkpoints.at(-1)?.expected ?? ""));
        // When a consumer was last seen is the time at which it reads, here as on a replica.
        assertSameDump(expected, await server.dump(), { how: "loaded", withoutSeen: true });
        assert.ok(segments > 1, "More than one segment is loaded");
      });
    }
  });
}

/** In three sittings, with segments as small as their batches. Returns how many there are. */
async function record(id: string, capture: Capture, dir: string): Promise<number> {
  const batches = capture.parts.flatMap((part) => readBatches(id, part));
  const third = Math.ceil(batches.length / 3);
  for (let at = 0; at < batches.length; at += third) {
    await using spool = await Spool.open(dir, { segmentBytes: 4096 });
    if (at === 0) {
      const [first] = batches;
      const offset = first?.startOffset ?? 0;
      const base = await spool.beginBase({ replicationId, offset, ms: 1 }, "none before");
      await base.write(readFileSync(join(captures, id, capture.snapshot)));
      await base.commit();
    }
    for (const { bytes, ...batch } of batches.slice(at, at + third)) {
      assert.equal(spool.position?.offset, batch.startOffset);
      if (!spool.append(bytes, batch)) await spool.room();
    }
    await spool.flush();
    if (at + third >= batches.length) return spool.generation?.segments.length ?? 0;
  }
  return 0;
}

/** A batch a unit, without what does not belong into a log. */
function readBatches(
  id: string,
  part: Capture["parts"][number],
): (Batch & { readonly bytes: Uint8Array })[] {
  const stream = readFileSync(join(captures, id, part.file));
  const batches: (Batch & { readonly bytes: Uint8Array })[] = [];
  const scanner = new RecordScanner();
  const name = new Slice();
  let kept: Uint8Array[] = [];
  let start = 0;
  scanner.push(stream);
  while (scanner.next() !== "more") {
    scanner.argument(0, name);
    if (!notLogged.test(name.latin1())) kept.push(stream.subarray(scanner.start, scanner.end));
    if (scanner.unitStart !== undefined) continue;
    const startOffset = part.startOffset + start;
    const offset = part.startOffset + scanner.end;
    const position = { replicationId: part.id ?? replicationId, startOffset, offset, ms: 1 };
    batches.push({ ...position, bytes: Buffer.concat(kept) });
    kept = [];
    start = scanner.end;
  }
  assert.equal(start, stream.length);
  return batches;
}

function read(id: string): Capture[] {
  const index = JSON.parse(readFileSync(join(captures, id, "index.json"), "utf8"));
  // A lone node of a cluster answers for no slots.
  return (index.fixtures as Capture[]).filter(
    ({ kind, name }) => kind === "repl" && name !== "cluster",
  );
}

function load(id: string, path: string): string {
  const bytes = readFileSync(join(captures, id, path));
  return (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
}
