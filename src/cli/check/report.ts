/**
 * What `tidemark check --json` prints: one object of this shape. It changes by adding fields only;
 * anything else raises `format`.
 *
 * VERDICTS
 *
 *   sound     all of it was read, and nothing is wrong as far as it has checksums to tell
 *   torn      the last file of a log ends inside a record, an annotation or a transaction: what a
 *             crash leaves. Servers cut that off, and so does `--repair`
 *   damaged   bytes are wrong or missing: what follows them cannot be trusted, or not be loaded
 *   unknown   it is of a kind that is not known here, or asks for more than a limit allows
 */
import type { ErrorCode } from "../../base/errors.ts";
import type { PositionLine } from "../../codec/aof/annotation.ts";
import type { Checksum } from "../checksum.ts";
import type { DataSource, SourceFile } from "../data-source.ts";

export type Verdict = "sound" | "torn" | "damaged" | "unknown";

export type CheckReport = {
  readonly format: 1;
  readonly path: string;
  /** Null where the path does not even tell that. */
  readonly kind: DataSource["kind"] | null;
  /** Of the whole: the worst of its files. */
  readonly verdict: Verdict;
  readonly files: readonly FileCheck[];
  /** What is worth knowing and no damage. */
  readonly notes: readonly string[];
  /** Null where no repair was asked for, or none was needed. */
  readonly repair: RepairReport | null;
};

export type FileCheck = {
  readonly file: string;
  readonly role: SourceFile["role"] | "unknown";
  readonly sequence: number | null;
  readonly sizeBytes: number | null;
  readonly verdict: Verdict;
  /** Where the trouble starts, and what it is; null in a sound file. */
  readonly code: ErrorCode | null;
  readonly offset: number | null;
  readonly reason: string | null;
  readonly snapshot: SnapshotCheck | null;
  readonly log: LogCheck | null;
  readonly notes: readonly string[];
};

export type SnapshotCheck = {
  readonly version: number;
  /** Complete ones. */
  readonly keys: number;
  readonly checksum: Checksum;
};

export type LogCheck = {
  /** Complete ones. */
  readonly records: number;
  /** The end of the last complete record or transaction. */
  readonly goodEnd: number;
  /** Records behind the last position line, for which no checksum speaks. */
  readonly unsealedRecords: number;
  readonly lastPosition: PositionLine | null;
  /** What a repair would cut off; null where the file is not torn. */
  readonly torn: {
    readonly cutBytes: number;
    /** Complete records among them: those of the transaction that is not complete. */
    readonly cutRecords: number;
  } | null;
};

export type RepairReport = {
  readonly file: string;
  /** False where only the plan was asked for. */
  readonly isDone: boolean;
  /** The file as it was; null where nothing has been done. */
  readonly copy: string | null;
  readonly truncatedTo: number;
  readonly cutBytes: number;
  readonly cutRecords: number;
};
