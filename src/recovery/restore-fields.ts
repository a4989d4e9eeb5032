/**
 * Puts the expiries of hash fields off in a folder that a scratch server replays, and moves them back behind it.
 *
 *   base RDB, log ─► with expiries put off (restore-held.ts) ─► scratch server ─► snapshot ─► moved back
 *
 * WHY. Redis 8.0.2 does not see a field whose time has passed while it loads a log. So HPERSIST and HGETEX … PERSIST,
 * which had come in time, find nothing there, and the field is gone, without a word; and HINCRBY begins at
 * nothing. (Keys are seen all the same; Valkey 9 sees fields, too.) Only a log that has to do with such fields is changed.
 *
 * LIMITS. Fields in the payload of a RESTORE that is in the log are not put off.
 */
import { rename } from "node:fs/promises";
import { Slice } from "../base/bytes.ts";
import { RecordScanner } from "../codec/aof/framing.ts";
import { RespEncoder } from "../codec/resp/encode.ts";
import type { AppendOnlyDir, LogFile } from "../log/append-only-dir.ts";
import { BaseFile } from "../log/base-file.ts";
import { systemDisk } from "../log/disk.ts";
import { InputFile } from "../log/input-file.ts";
import type { ExpiryPolicy } from "./key-pipe.ts";
import { holdText, isWord, timeArgument, tooLong } from "./restore-held.ts";
import { rewriteSnapshot, type Snapshot, targetOfMagic } from "./restore-snapshot.ts";

const keptBytes = 600 * 2 ** 20;
const partBytes = 2 ** 20;

/** Changes the files of a log where they need it; whether they did. `open` reads a snapshot from a file. */
export async function holdFields(
  { files }: AppendOnlyDir,
  open: (path: string) => Snapshot,
  signal?: AbortSignal,
): Promise<boolean> {
  const base = files.find(({ role }) => role === "base");
  // Older snapshots have no expiries of fields.
  const mayExpire =
    base !== undefined && /^(REDIS001[2-9]|VALKEY)/.test(open(base.path).magic ?? "");
  const increments = files.filter(({ role }) => role === "increment");
  let isNeeded = false;
  for (const { path } of increments) isNeeded ||= await needsFields(path, mayExpire, signal);
  if (!isNeeded) return false;
  for (const file of files) await holdIn(file, open, signal);
  return true;
}

/** As a file beside the one that a snapshot is read from, whose path it returns. */
export async function releaseFields(path: string, snapshot: Snapshot): Promise<string> {
  const released = `${path}.released`;
  await rewrite(snapshot, released, { kind: "release" });
  return released;
}

async function holdIn(
  { role, path }: LogFile,
  open: (path: string) => Snapshot,
  signal: AbortSignal | undefined,
): Promise<void> {
  const held = `${path}.held`;
  if (role === "base") await rewrite(open(path), held, { kind: "hold", only: "fields" });
  else await writeTo(held, (write) => copyHeld(path, write, signal));
  await rename(held, path);
}

async function rewrite(snapshot: Snapshot, path: string, expiry: ExpiryPolicy): Promise<void> {
  await writeTo(path, async (write) => {
    await rewriteSnapshot(snapshot, targetOfMagic(snapshot.magic), {
      pipe: { expiry },
      writer: { aofBase: true, modules: "any" },
      write,
    });
  });
}

type Write = (bytes: Uint8Array) => Promise<void>;

async function writeTo(path: string, fill: (write: Write) => Promise<void>): Promise<void> {
  const out = await BaseFile.create(systemDisk, path);
  try {
    await fill((bytes) => out.write(bytes));
    await out.finish();
  } catch (error) {
    await out.remove();
    throw error;
  }
}

/** Records of a file, until `take` says that it has seen enough. */
async function walk(
  path: string,
  signal: AbortSignal | undefined,
  take: (scanner: RecordScanner) => Promise<boolean> | boolean,
): Promise<void> {
  using file = InputFile.open(path);
  const scanner = new RecordScanner({ keepBytes: keptBytes });
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    signal?.throwIfAborted();
    scanner.push(Uint8Array.from(chunk));
    for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
      if (item !== "record") continue;
      const more = take(scanner);
      if (!(typeof more === "boolean" ? more : await more)) return;
    }
  }
}

/** Whether a log sets expiries of fields or takes them away; `mayExpire`: or reads fields that may have some. */
async function needsFields(
  path: string,
  mayExpire: boolean,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const names = ["hpersist", "hgetex", "hsetex", "hexpireat", "hpexpireat"];
  if (mayExpire) names.push("hincrby");
  const slice = new Slice();
  let isFound = false;
  await walk(path, signal, (scanner) => {
    if (!scanner.argument(0, slice)) return true;
    const { length } = slice;
    isFound = names.some((name) => name.length === length && isWord(scanner, 0, name, slice));
    return !isFound;
  });
  return isFound;
}

async function copyHeld(path: string, write: Write, signal: AbortSignal | undefined) {
  const out = new RespEncoder();
  const slice = new Slice();
  await walk(path, signal, (scanner) => {
    copyRecord(scanner, out, slice);
    return out.length < partBytes || write(out.take()).then(() => true);
  });
  await write(out.take());
}

function copyRecord(scanner: RecordScanner, out: RespEncoder, slice: Slice): void {
  const time = timeArgument(scanner, slice);
  if (time?.of !== "fields") {
    if (!scanner.raw(slice)) throw tooLong(scanner);
    out.raw(slice.bytes, slice.start, slice.end);
    return;
  }
  out.array(scanner.argc);
  for (let i = 0; i < scanner.argc; i++) {
    if (!scanner.argument(i, slice)) throw tooLong(scanner);
    if (i === time.index) out.bulkText(holdText(slice.latin1(), "fields", time.isSeconds));
    else out.bulk(slice.bytes, slice.start, slice.end);
  }
}
