/**
 * A process that records and archives as fast as it can, until it is killed. On its standard output it
 * says what it does, a line each.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { openRepository } from "../../src/archive/repository.ts";
import { systemDisk } from "../../src/log/disk.ts";
import { Spool } from "../../src/log/spool.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import {
  acquire,
  addRandomSet,
  appendBatch,
  archiverOf,
  keepIn,
  keeping,
  takeBase,
} from "./shipping.ts";

const [folder = "", seed = "1"] = process.argv.slice(2);
const random = seededRandom(Number(seed));
// Written at once: what stays in a buffer of this process is not told.
const tell = (text: string) => writeSync(1, `${text}\n`);
let ms = 1_795_328_990_000;

const repository = await openRepository(new DirectoryStore(join(folder, "repository")));
const spool = await Spool.open(join(folder, "spool"), { segmentBytes: 20_000 });
ms = Math.max(ms, spool.position?.ms ?? 0);
if (spool.state.kind !== "ready") await takeBase(spool, ms);
const lease = await acquire(repository);
tell("held");

const keep = keepIn(join(folder, "kept"));
const archiver = archiverOf({
  ...{ repository, lease, intervalMs: 5, spool: keeping(spool, systemDisk, keep) },
  temporaryFolder: join(folder, "spool", "archive"),
  maxGatheredBytes: random.chance(0.5) ? 500 : 1_000_000,
  rebase: { minFreedBytes: 1, everyMs: 0 },
  onEvent: ({ kind }) => tell(kind),
});

async function write(): Promise<void> {
  for (;;) {
    ms += random.below(50);
    if (random.chance(0.01)) await takeBase(spool, ms);
    for (let left = random.below(10); left > 0; left--) {
      if (!appendBatch(spool, ms)) await spool.room();
    }
    spool.tick();
    if (random.chance(0.5)) await spool.flush();
    if (random.chance(0.05)) await addRandomSet(repository, spool, random, ms);
    await new Promise((resolve) => setTimeout(resolve, random.below(4)));
  }
}

await Promise.race([write(), archiver.run(new AbortController().signal)]);
