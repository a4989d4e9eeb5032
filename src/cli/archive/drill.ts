/** A drill: a backup set is loaded by a stock server, and what it has then is counted. */
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SetManifest } from "../../archive/backup-set.ts";
import type { ObjectReader } from "../../archive/object/object-reader.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { InputFile } from "../../log/input-file.ts";
import { ScratchServer } from "../../recovery/scratch-server.ts";
import { Progress } from "../render/progress.ts";

/** What a drill found wrong; undefined where the server has all keys. @throws Failure SERVER_FAILED */
export async function drill(
  program: string,
  { manifest, reader }: { readonly manifest: SetManifest; readonly reader: ObjectReader },
  signal: AbortSignal,
): Promise<string | undefined> {
  using held = new DisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "tidemark-drill-"));
  held.defer(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "snapshot.rdb");
  await write(reader, path, signal);
  // A log that is an RDB alone: any server loads that.
  const server = held.use(ScratchServer.start(program, { kind: "aof", path }));
  const keys = countKeys(await server.snapshot(signal));
  const { keys: counted } = manifest.snapshot;
  if (counted === null || counted === keys) return undefined;
  return `"${program}" has ${keys} keys when it has loaded it; its manifest says ${counted}`;
}

async function write(reader: ObjectReader, path: string, signal: AbortSignal): Promise<void> {
  using progress = new Progress(reader.rawStarts.at(-1) ?? 0);
  await using file = await open(path, "wx", 0o600);
  for await (const chunk of reader.rawBytes()) {
    await file.write(chunk);
    progress.add(chunk.length);
    signal.throwIfAborted();
  }
}

function countKeys(path: string): number {
  using file = InputFile.open(path);
  const reader = new RdbReader();
  let keys = 0;
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    reader.push(chunk);
    for (let event = reader.next(); event; event = reader.next()) {
      if (event !== "key") continue;
      keys++;
      reader.skip();
    }
  }
  return keys;
}
