/**
 * The command `convert`, in its phases: what is asked for, what is there, and then
 *
 *   an RDB              its keys through a pipe to the output
 *   JSON lines          the same, made an RDB on the way
 *   an AOF              its RDB part the same way, and its records as they are; or, where only the
 *                       data that they amount to will do, replayed by a server first
 */
import { existsSync, statSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { JsonLineReader } from "../../codec/json-lines-read.ts";
import type { Target } from "../../codec/rdb/model.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";
import { RdbWriter } from "../../codec/rdb/writer.ts";
import { InputFile } from "../../log/input-file.ts";
import { type ExpiryPolicy, KeyPipe, type KeyPipeOptions } from "../../recovery/key-pipe.ts";
import { RecordCopy } from "../../recovery/record-copy.ts";
import { ScratchServer } from "../../recovery/scratch-server.ts";
import { isEverything } from "../../recovery/selection.ts";
import { type DataSource, openSource, startsAsRdb } from "../data-source.ts";
import {
  type KeyChoiceFlags,
  maxDistinct,
  readPrefix,
  readSelection,
  readTtl,
} from "../key-choice.ts";
import { Progress } from "../render/progress.ts";
import { formatCount, plural } from "../render/text.ts";
import { stoppable } from "../stop.ts";
import { walkFile } from "../walk.ts";
import { type Form, formOf, targetOf } from "./form.ts";
import { type Output, openOutput } from "./output.ts";

export type ConvertFlags = KeyChoiceFlags & {
  readonly to?: Form;
  readonly target?: Target;
  readonly lossy?: true;
  readonly whole?: true;
  readonly compress: boolean;
  readonly module?: string[];
  readonly server?: string;
  readonly force?: true;
  readonly json?: true;
};

type Source = DataSource | { readonly kind: "jsonl"; readonly path: string };

const headBytes = 64 * 1024;

export async function convert(input: string, output: string, flags: ConvertFlags): Promise<void> {
  const left = output === "-" ? "What was written is not whole." : "Nothing of it was left.";
  await stoppable({ doing: "finish the conversion", left }, (signal) =>
    convertNow(input, output, { ...flags, signal }),
  );
}

type Wishes = ConvertFlags & { readonly signal: AbortSignal };

async function convertNow(input: string, output: string, flags: Wishes): Promise<void> {
  const form = flags.to ?? formOf(output);
  const source = openInput(input);
  // JSON lines are sorted, which brings keys that are there twice together, however many there are.
  const pipe = { ...readPipeOptions(flags, source), comparesKeys: form !== "jsonl" };
  if (!mustReplay(source, form, pipe)) {
    await write(source, output, form, flags, pipe);
    return;
  }
  if (source.kind !== "aof" && source.kind !== "appendonlydir") return;
  if (flags.server === undefined) throw serverNeeded(input, form);
  using server = ScratchServer.start(flags.server, source);
  const path = await server.snapshot(flags.signal);
  await write(openSource(path), output, form, flags, pipe);
}

/** What the data are, told by the content: JSON lines start as no other form does, if at all. */
function openInput(path: string): Source {
  if (existsSync(path) && statSync(path).isFile()) {
    using file = InputFile.open(path);
    const [first] = file.head(1);
    if (first === 0x7b || (first === undefined && /\.jsonl$/i.test(path))) {
      return { kind: "jsonl", path };
    }
  }
  return openSource(path);
}

/** Whether the commands of a log must become data. A log without commands is data already. */
function mustReplay(source: Source, form: Form, pipe: KeyPipeOptions): boolean {
  if (source.kind !== "aof" && source.kind !== "appendonlydir") return false;
  const asIs = form === "aof" || form === "appendonlydir" || form === "resp";
  if (asIs && changesNothing(pipe)) return false;
  return hasRecords(source);
}

function hasRecords(source: DataSource): boolean {
  if (source.kind !== "appendonlydir") return !isOnlyRdb(source.path);
  const { files } = source.log;
  return files.some(
    (file) => file.sizeBytes !== 0 && !(file.role === "base" && isOnlyRdb(file.path)),
  );
}

/** Whether a file is an RDB from its start to its end. */
function isOnlyRdb(path: string): boolean {
  using file = InputFile.open(path);
  if (!startsAsRdb(file.head(headBytes))) return false;
  const reader = new RdbReader();
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    reader.push(chunk);
    for (let event = reader.next(); event; event = reader.next()) {
      if (event === "key") reader.skip();
      if (event === "end") return reader.rest().length === 0 && file.read().length === 0;
    }
  }
  return true;
}

function changesNothing({ selection, expiry, prefix }: KeyPipeOptions): boolean {
  return isEverything(selection ?? {}) && expiry?.kind === "keep" && prefix === undefined;
}

function serverNeeded(input: string, form: Form): Failure {
  const found = `what its commands amount to, as ${form} or in part, is known only by a replay`;
  return new Failure("SERVER_NEEDED", `Cannot convert "${input}": ${found}`);
}

function readPipeOptions(flags: ConvertFlags, source: Source): KeyPipeOptions {
  const prefix = readPrefix(flags);
  return {
    selection: readSelection(flags),
    expiry: readExpiry(flags, source),
    maxDistinct,
    ...(prefix && { prefix }),
  };
}

/** Expiries are left from when the data was last written; an RDB mostly says itself when that was. */
function readExpiry({ ttl }: ConvertFlags, source: Source): ExpiryPolicy {
  const toMs = systemClock.now();
  const policy = readTtl(ttl, toMs);
  if (policy === "keep" || policy === "persist") return { kind: policy };
  if (typeof policy === "object") return { kind: "shift", toMs, fromMs: policy.shiftFromMs };
  const last = source.kind === "appendonlydir" ? source.log.files.at(-1)?.path : undefined;
  using file = InputFile.open(last ?? source.path);
  const fromMs = Math.trunc(file.stats.mtimeMs);
  return { kind: policy, toMs, fromMs, orCtime: source.kind === "rdb" };
}

async function write(
  source: Source,
  path: string,
  form: Form,
  flags: Wishes,
  pipeOptions: KeyPipeOptions,
): Promise<void> {
  const target = flags.target ?? defaultTarget(source, form);
  using output = openOutput({
    form,
    path,
    target,
    mayReplace: flags.force === true,
    whole: flags.whole === true,
    lossy: flags.lossy === true,
    writer: { compress: flags.compress, ...(flags.module && { modules: flags.module }) },
  });
  const pipe = new KeyPipe(output.sink, pipeOptions);
  const records =
    source.kind === "jsonl"
      ? await pipeLines(source.path, pipe, flags.signal)
      : await pipeFiles(source, pipe, output, flags.signal);
  output.publish();
  report({ path, form, target, flags, pipe, records, output });
}

/** What the data came from; but servers before 7.0 know no log of several files. */
function defaultTarget(source: Source, form: Form): Target {
  const target = targetOfSource(source);
  return form === "appendonlydir" && target === "redis:6.0" ? "redis:7.0" : target;
}

function targetOfSource(source: Source): Target {
  if (source.kind === "jsonl") return "redis:8";
  const path = source.kind === "appendonlydir" ? source.log.files[0]?.path : source.path;
  // Of records alone an RDB is made without keys: the oldest loads everywhere.
  if (path === undefined) return "redis:6.0";
  using file = InputFile.open(path);
  const head = file.head(headBytes);
  return startsAsRdb(head) ? targetOf(head) : "redis:6.0";
}

/** Reads the files of a source, in order. Returns how many records were passed on. */
async function pipeFiles(
  source: DataSource,
  pipe: KeyPipe,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const files = source.kind === "appendonlydir" ? source.log.files : [source];
  using progress = new Progress(files.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0));
  let records = 0;
  /** Whether the keys are over: what comes now are records. */
  let hasKeys = false;
  const endKeys = () => {
    // A log without an RDB has no keys to read, but what is written starts with one.
    if (!hasKeys) output.sink.finish();
    hasKeys = true;
  };
  for (const { path } of files) {
    using file = InputFile.open(path);
    const isRdb = startsAsRdb(file.head(headBytes));
    if (isRdb && hasKeys) {
      throw new Failure("DATA_UNSUPPORTED", `Cannot read "${path}": an RDB behind other data`);
    }
    hasKeys ||= isRdb;
    let copy: RecordCopy | undefined;
    const openLog = (offset: number) => {
      if (source.kind === "rdb") return trailingBytes;
      endKeys();
      copy = openRecords(path, offset, output);
      return copy;
    };
    await walkFile(file, isRdb ? pipe : undefined, openLog, progress, signal);
    copy?.finish();
    records += copy?.records ?? 0;
  }
  endKeys();
  return records;
}

/** Nothing that a line can say is lost on the way: no other target takes as many expiries. */
const linesTarget = "valkey:9";

/** Behind an RDB there may be a replication mark, say; servers don't look at it. */
const trailingBytes = { push(): void {} };

function openRecords(
  path: string,
  offset: number,
  { record, keepsAnnotations }: Output,
): RecordCopy {
  if (record) return new RecordCopy(path, offset, record, keepsAnnotations);
  throw new Failure("SERVER_NEEDED", `Cannot convert "${path}": commands start at byte ${offset}`, {
    offset,
  });
}

/** Makes an RDB of JSON lines, line by line, and reads that: see `linesTarget`. */
async function pipeLines(path: string, pipe: KeyPipe, signal: AbortSignal): Promise<number> {
  using file = InputFile.open(path);
  using progress = new Progress(file.stats.size);
  const options = { compress: false, checksum: false, modules: "any" } as const;
  const writer = new RdbWriter(linesTarget, options);
  const pass = () => {
    pipe.reader.push(writer.take());
    pipe.drain();
  };
  const lines = new JsonLineReader(writer, pass);
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    lines.push(chunk);
    progress.add(chunk.length);
    await setImmediate();
    signal.throwIfAborted();
  }
  lines.finish();
  writer.finish();
  pass();
  return 0;
}

type Done = {
  readonly path: string;
  readonly form: Form;
  readonly target: Target;
  readonly flags: ConvertFlags;
  readonly pipe: KeyPipe;
  readonly records: number;
  readonly output: Output;
};

/** Not mixed with what was asked for on standard output. */
function report({ path, form, target, flags, pipe, records, output }: Done): void {
  const { counts } = pipe;
  const dropped = Object.fromEntries(output.dropped);
  if (flags.json) {
    const facts = {
      output: path,
      form,
      target: form === "jsonl" ? null : target,
      keys: counts,
      records,
      dropped,
    };
    (path === "-" ? process.stderr : process.stdout).write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const parts = [
    `${plural(counts.written, "key")}${records > 0 ? `, ${plural(records, "record")}` : ""}`,
  ];
  if (counts.skipped > 0) parts.push(`${formatCount(counts.skipped)} not chosen`);
  if (counts.libraries > 0)
    parts.push(`function libraries not chosen: ${formatCount(counts.libraries)}`);
  if (counts.expired > 0) parts.push(`${formatCount(counts.expired)} had expired`);
  if (counts.empty > 0) parts.push(`${formatCount(counts.empty)} empty, left out`);
  if (counts.unchecked > 0)
    parts.push(`${formatCount(counts.unchecked)} not compared for duplicates`);
  for (const [feature, times] of output.dropped)
    parts.push(`lost: ${feature} (${formatCount(times)})`);
  const name = path === "-" ? "standard output" : path;
  const server = form === "jsonl" ? "" : ` for ${target}`;
  process.stderr.write(`${name}: ${form}${server}, ${parts.join("; ")}\n`);
}
