/**
 * A process that appends to a spool as fast as it can, until it is killed. On its standard output it
 * says what has been acknowledged: a line "position OFFSET" at the start, and "durable OFFSET" each
 * time that has advanced.
 *
 * What it appends depends on the offset alone: whoever reads the spool knows what has to be there.
 */
import { writeSync } from "node:fs";
import { type FsyncPolicy, Spool } from "../../src/log/spool.ts";
import { baseOffset, batchAt, replicationId } from "./numbered.ts";

const [folder = "", fsync = "everysec"] = process.argv.slice(2);
let told = 0;
// Written at once: what stays in a buffer of this process is not told.
const tell = (text: string) => writeSync(1, `${text}\n`);
const onChange = () => {
  const durable = spool.durable?.offset ?? 0;
  if (durable <= told) return;
  told = durable;
  tell(`durable ${durable}`);
};

const spool = await Spool.open(folder, {
  fsync: fsync as FsyncPolicy,
  segmentBytes: 64 * 1024,
  maxPendingBytes: 16 * 1024,
  onChange: () => onChange(),
});
if (spool.state.kind === "empty") {
  const base = await spool.beginBase({ replicationId, offset: baseOffset, ms: 1 }, "none before");
  // The shortest RDB that a server takes: no checksum.
  await base.write(Buffer.from("REDIS0011\xff\0\0\0\0\0\0\0\0", "latin1"));
  await base.commit();
}
tell(`position ${spool.position?.offset}`);
for (let ms = 1; ; ms++) {
  const startOffset = spool.position?.offset ?? 0;
  const bytes = batchAt(startOffset);
  const batch = { replicationId, startOffset, offset: startOffset + bytes.length, ms, database: 0 };
  if (!spool.append(bytes, batch)) await spool.room();
  if (ms % 8 === 0) {
    spool.tick();
    await new Promise(setImmediate);
  }
}
