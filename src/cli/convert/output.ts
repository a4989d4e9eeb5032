/**
 * What a conversion writes: keys go through a sink, records behind them as they are.
 *
 *   rdb             an RDB                        aof     an RDB, then records, in one file
 *   jsonl           canonical JSON lines          resp    commands, then records
 *   appendonlydir   a base RDB, one increment of records, and, last of all, the manifest
 *
 * Nothing has its name before it is whole and durable: see `log/output-file.ts`.
 */
import { mkdirSync, readdirSync, rmdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure } from "../../base/errors.ts";
import { fileNames, formatManifest } from "../../codec/aof/manifest.ts";
import { CommandWriter } from "../../codec/rdb/commands.ts";
import type { KeyHead, KeySink } from "../../codec/rdb/key-sink.ts";
import type { Target } from "../../codec/rdb/model.ts";
import type { Parts, RdbEvent } from "../../codec/rdb/parts.ts";
import { RdbTranscoder } from "../../codec/rdb/transcode.ts";
import { RdbWriter, type WriterOptions } from "../../codec/rdb/writer.ts";
import { fileFailure } from "../../log/input-file.ts";
import { OutputFile, syncFolder } from "../../log/output-file.ts";
import { JsonSink } from "../../recovery/json-sink.ts";
import { mustNotBeTerminal, writeOutput } from "../standard-output.ts";
import type { Form } from "./form.ts";

export type OutputOptions = {
  readonly form: Form;
  readonly path: string;
  readonly target: Target;
  readonly mayReplace: boolean;
  readonly whole: boolean;
  readonly lossy: boolean;
  readonly writer: WriterOptions;
};

export interface Output extends Disposable {
  /** Takes the keys. */
  readonly sink: KeySink;
  /** Takes encoded records, which come behind all keys; undefined where they have no place. */
  readonly record: ((bytes: Uint8Array) => void) | undefined;
  /** Whether annotations may stand between the records. */
  readonly keepsAnnotations: boolean;
  readonly dropped: ReadonlyMap<string, number>;
  publish(): void;
}

export function openOutput(options: OutputOptions): Output {
  switch (options.form) {
    case "rdb":
      return rdbOutput(openBytes(options), options);
    case "aof":
      return rdbOutput(openBytes(options), options, true);
    case "resp":
      return commandOutput(openBytes(options), options);
    case "jsonl":
      return new JsonOutput(openBytes(options), options);
    case "appendonlydir":
      return new FolderOutput(options);
  }
}

/** Where bytes go: a file that is published, or standard output. */
interface Bytes extends Disposable {
  write(bytes: Uint8Array): void;
  writeLatin1(text: string): void;
  publish(): void;
}

function openBytes({ form, path, mayReplace }: OutputOptions): Bytes {
  if (path !== "-") return OutputFile.create(path, mayReplace);
  // JSON lines are plain ASCII.
  if (form !== "jsonl") mustNotBeTerminal(form);
  return standardOutput;
}

const standardOutput: Bytes = {
  write: writeOutput,
  writeLatin1: (text) => writeOutput(Buffer.from(text, "latin1")),
  publish() {},
  [Symbol.dispose]() {},
};

/** Bytes of output that collect before they are written. */
const writeAfter = 256 * 1024;

/** Passes on what a writer has ready, when there is enough of it. */
class Draining implements KeySink {
  readonly #sink: KeySink;
  readonly #writer: { readonly pendingBytes: number; take(): Uint8Array };
  readonly #bytes: Bytes;

  constructor(sink: KeySink, writer: { pendingBytes: number; take(): Uint8Array }, bytes: Bytes) {
    this.#sink = sink;
    this.#writer = writer;
    this.#bytes = bytes;
  }

  library(code: Parameters<KeySink["library"]>[0]): void {
    this.#sink.library(code);
  }

  moduleAux(raw: Uint8Array): void {
    this.#sink.moduleAux(raw);
  }

  begin(head: KeyHead): void {
    this.#sink.begin(head);
  }

  accept(event: RdbEvent, parts: Parts): void {
    this.#sink.accept(event, parts);
    if (this.#writer.pendingBytes >= writeAfter) this.#bytes.write(this.#writer.take());
  }

  finish(): void {
    this.#sink.finish();
    this.#bytes.write(this.#writer.take());
  }
}

/** An RDB, as the base of a log or for itself. */
function rdbOutput(bytes: Bytes, options: OutputOptions, aofBase?: true): WriterOutput {
  const { target, lossy } = options;
  const writer = new RdbWriter(target, { ...options.writer, lossy, ...(aofBase && { aofBase }) });
  return new WriterOutput(bytes, writer, new RdbTranscoder(writer), aofBase === true);
}

function commandOutput(bytes: Bytes, { target, lossy, writer }: OutputOptions): WriterOutput {
  const commands = new CommandWriter(target, { lossy, modules: writer.modules ?? [] });
  return new WriterOutput(bytes, commands, commands, true);
}

type BytesWriter = {
  readonly pendingBytes: number;
  readonly dropped: ReadonlyMap<string, number>;
  take(): Uint8Array;
};

/** What a writer writes, with records behind it where they have a place there. */
class WriterOutput implements Output {
  readonly sink: KeySink;
  readonly record: ((bytes: Uint8Array) => void) | undefined;
  readonly keepsAnnotations = false;
  readonly #writer: BytesWriter;
  readonly #bytes: Bytes;

  constructor(bytes: Bytes, writer: BytesWriter, sink: KeySink, takesRecords: boolean) {
    this.#bytes = bytes;
    this.#writer = writer;
    this.sink = new Draining(sink, writer, bytes);
    this.record = takesRecords ? (records) => bytes.write(records) : undefined;
  }

  get dropped(): ReadonlyMap<string, number> {
    return this.#writer.dropped;
  }

  publish(): void {
    this.#bytes.publish();
  }

  [Symbol.dispose](): void {
    this.#bytes[Symbol.dispose]();
  }
}

class JsonOutput implements Output {
  readonly sink: JsonSink;
  readonly record = undefined;
  readonly keepsAnnotations = false;
  readonly dropped = new Map<string, number>();
  readonly #bytes: Bytes;

  constructor(bytes: Bytes, { whole }: OutputOptions) {
    this.#bytes = bytes;
    this.sink = new JsonSink((text) => bytes.writeLatin1(text), whole);
  }

  publish(): void {
    this.#bytes.publish();
  }

  [Symbol.dispose](): void {
    this.sink[Symbol.dispose]();
    this.#bytes[Symbol.dispose]();
  }
}

const logName = "appendonly.aof";
const base = { file: fileNames.base(logName, 1, "rdb"), sequence: 1 };
const increment = { file: fileNames.increment(logName, 1), sequence: 1 };

class FolderOutput implements Output {
  readonly sink: KeySink;
  readonly record: (bytes: Uint8Array) => void;
  readonly keepsAnnotations = true;
  readonly #path: string;
  /** Whether the folder was made here, and goes when it is not published. */
  readonly #isNew: boolean;
  readonly #base: WriterOutput;
  readonly #records: OutputFile;
  #isPublished = false;

  constructor(options: OutputOptions) {
    const { path } = options;
    if (options.target === "redis:6.0") {
      throw new Failure("TARGET_CANNOT_HOLD", "Cannot write a log of several files for redis:6.0", {
        hint: "Name a file that ends in .aof: servers before 7.0 have their log in one file.",
      });
    }
    this.#path = path;
    this.#isNew = makeFolder(path);
    this.#base = rdbOutput(OutputFile.create(join(path, base.file)), options, true);
    this.#records = OutputFile.create(join(path, increment.file));
    this.sink = this.#base.sink;
    this.record = (records) => this.#records.write(records);
  }

  get dropped(): ReadonlyMap<string, number> {
    return this.#base.dropped;
  }

  publish(): void {
    this.#base.publish();
    this.#records.publish();
    using manifest = OutputFile.create(join(this.#path, fileNames.manifest(logName)));
    manifest.write(formatManifest({ base, increments: [increment], history: [] }));
    manifest.publish();
    this.#isPublished = true;
    if (this.#isNew) syncFolder(dirname(this.#path));
  }

  [Symbol.dispose](): void {
    this.#base[Symbol.dispose]();
    this.#records[Symbol.dispose]();
    if (this.#isPublished) return;
    for (const { file } of [base, increment]) rmSync(join(this.#path, file), { force: true });
    if (this.#isNew) rmdirSync(this.#path);
  }
}

/** False: there is such a folder, and it is empty. */
function makeFolder(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isDirectory() === false) {
    throw new Failure("FILE_EXISTS", `Cannot write a log into "${path}": it is no folder`);
  }
  if (stats !== undefined && readdirSync(path).length > 0) {
    throw new Failure("FILE_EXISTS", `Cannot write a log into "${path}": it is not empty`);
  }
  try {
    if (stats === undefined) mkdirSync(path);
  } catch (cause) {
    throw fileFailure("make", path, cause);
  }
  return stats === undefined;
}
