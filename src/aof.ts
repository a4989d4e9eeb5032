/**
 * `tidemark/aof`: append-only files of Redis and Valkey, without any I/O.
 *
 * Walking over the records of a file; bytes are borrowed until the next call:
 *
 *     const scanner = new RecordScanner();
 *     const name = new Slice();
 *     for await (const chunk of createReadStream(path)) {
 *       scanner.push(chunk);
 *       for (let item = scanner.next(); item !== "more"; item = scanner.next()) {
 *         if (item === "record" && scanner.argument(0, name)) count(name.latin1());
 *       }
 *     }
 *
 * Whether a file is good, and what a repair has to cut:
 *
 *     const checker = new LogChecker();
 *     for await (const chunk of createReadStream(path)) checker.push(chunk);
 *     const result = checker.finish();
 *     if (result.verdict === "torn") await truncate(path, planRepair(result)?.truncateTo);
 *
 * Where to cut it for the data to be as they were at the end of a second:
 *
 *     const cutter = new LogCutter({ seconds: 1795331204 });
 *     for await (const chunk of createReadStream(path)) if (!cutter.push(chunk)) break;
 *     const { offset } = cutter.finish();
 *
 * A file with an RDB part starts behind it: give all of these `{ offset }`, and the bytes from
 * there on. Damage is thrown as a `Failure` with its offset; `LogChecker` tells it instead.
 */
export { Slice } from "./base/bytes.ts";
export { Failure } from "./base/errors.ts";
export {
  type Annotation,
  formatPositionLine,
  formatTimestamp,
  type Position,
  type PositionLine,
  parseAnnotation,
} from "./codec/aof/annotation.ts";
export {
  type CheckFacts,
  type CheckResult,
  LogChecker,
  planRepair,
  type RepairPlan,
  type TornTail,
} from "./codec/aof/check.ts";
export { type Cut, type CutTarget, LogCutter } from "./codec/aof/cut.ts";
export {
  type Item,
  maxAnnotationBytes,
  RecordScanner,
  type ScannerOptions,
  type Tail,
} from "./codec/aof/framing.ts";
export { type LogItem, type LogOptions, LogScanner } from "./codec/aof/log-scanner.ts";
export {
  fileNames,
  formatManifest,
  type Manifest,
  type ManifestEntry,
  parseManifest,
} from "./codec/aof/manifest.ts";
export { LogWriter, type WriterOptions } from "./codec/aof/writer.ts";
