/**
 * What a conversion writes: keys go through a sink, records behind them as they are.
 *
 *   rdb             an RDB                        aof     an RDB, then records, in one file
 *   jsonl           canonical JSON lines          resp    commands, then records
 *   appendonlydir   a base RDB, one increment of records, and, last of all, the manifest
 *
 * Nothing has its name before it is whole and durable: see `log/output-file.ts`.
 */
import { existsSync, mkdirSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../base/errors.ts";
import { fileNames, formatManifest } from "../../codec/aof/manifest.ts";
import { CommandWriter } from "../../codec/rdb/commands.ts";
import type { KeyHead, KeySink } from "../../codec/rdb/key-sink.ts";
import type { Target } from "../../codec/rdb/model.ts";
import type { Parts, RdbEvent } from "../../codec/rdb/parts.ts";
import { RdbTranscoder } from "../../codec/rdb/transcode.ts";
import { RdbWriter, type WriterOptions } from "../../codec/rdb/writer.ts";
import { OutputFile } from "../../log/output-file.ts";
import { JsonSink } from "../../recovery/json-sink.ts";
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
      return new RdbOutput(openBytes(options), options, undefined);
    case "aof":
      return new RdbOutput(openBytes(options), options, true);
    case "resp":
      return new CommandOutput(openBytes(options), options);
    case "jsonl":
      return new JsonOutput(openBytes(options), options);
    case "appendonlydir":
      return new FolderOutput(options);
  }
}

/** Where bytes go: a file that is published, or standard output. */
interface Bytes extends Disposable {
  write(bytes: Uint8Array): void;
  publish(): void;
}

function openBytes({ path, mayReplace }: OutputOptions): Bytes {
  return path === "-" ? standardOutput : OutputFile.create(path, mayReplace);
}

const standardOutput: Bytes = {
  write(bytes) {
    for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
  },
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

class RdbOutput implements Output {
  readonly sink: KeySink;
  readonly record: ((bytes: Uint8Array) => void) | undefined;
  readonly keepsAnnotations = false;
  readonly #writer: RdbWriter;
  readonly #bytes: Bytes;

  constructor(bytes: Bytes, { target, lossy, writer }: OutputOptions, aofBase: true | undefined) {
    this.#bytes = bytes;
    this.#writer = new RdbWriter(target, { ...writer, lossy, ...(aofBase && { aofBase }) });
    this.sink = new Draining(new RdbTranscoder(this.#writer), this.#writer, bytes);
    this.record = aofBase && ((records) => bytes.write(records));
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

class CommandOutput implements Output {
  readonly sink: KeySink;
  readonly record: (bytes: Uint8Array) => void;
  readonly keepsAnnotations = false;
  readonly #writer: CommandWriter;
  readonly #bytes: Bytes;

  constructor(bytes: Bytes, { target, lossy }: OutputOptions) {
    this.#bytes = bytes;
    this.#writer = new CommandWriter(target, lossy);
    this.sink = new Draining(this.#writer, this.#writer, bytes);
    this.record = (records) => bytes.write(records);
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
    this.sink = new JsonSink((text) => bytes.write(Buffer.from(text, "latin1")), whole);
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

class FolderOutput implements Output {
  readonly sink: KeySink;
  readonly record: (bytes: Uint8Array) => void;
  readonly keepsAnnotations: boolean;
  readonly #path: string;
  readonly #base: RdbOutput;
  readonly #records: OutputFile;

  constructor(options: OutputOptions) {
    const { path } = options;
    if (options.target === "redis:6.0") {
      throw new Failure("TARGET_CANNOT_HOLD", "Cannot write a log of several files for redis:6.0", {
        hint: "Name a file that ends in .aof: servers before 7.0 have their log in one file.",
      });
    }
    if (existsSync(path) && readdirSync(path).length > 0) {
      throw new Failure("FILE_EXISTS", `Cannot write a log into "${path}": it is not empty`);
    }
    mkdirSync(path, { recursive: true });
    const base = OutputFile.create(join(path, fileNames.base(logName, 1, "rdb")));
    this.#path = path;
    this.#base = new RdbOutput(base, options, true);
    this.#records = OutputFile.create(join(path, fileNames.increment(logName, 1)));
    this.sink = this.#base.sink;
    this.record = (records) => this.#records.write(records);
    this.keepsAnnotations = true;
  }

  get dropped(): ReadonlyMap<string, number> {
    return this.#base.dropped;
  }

  publish(): void {
    this.#base.publish();
    this.#records.publish();
    const base = { file: fileNames.base(logName, 1, "rdb"), sequence: 1 };
    const increment = { file: fileNames.increment(logName, 1), sequence: 1 };
    using manifest = OutputFile.create(join(this.#path, fileNames.manifest(logName)));
    manifest.write(formatManifest({ base, increments: [increment], history: [] }));
    manifest.publish();
  }

  [Symbol.dispose](): void {
    this.#base[Symbol.dispose]();
    this.#records[Symbol.dispose]();
  }
}
