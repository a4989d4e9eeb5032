/**
 * A backup set: a snapshot with what has to be known of it, as `manifest.json` says it.
 *
 * INVARIANT. What is not understood is refused by name: a manifest of a newer format, or with fields
 * that are missing or wrong, is no set, and says why. So is one that is not of the set and the instance
 * under whose names it lies: whoever reads a manifest goes by `parseSetManifest()`.
 */
import { z } from "zod";
import { Failure } from "../base/errors.ts";
import { formatDocument, maxDocumentBytes, parseDocument } from "./document.ts";
import { setObject } from "./layout.ts";

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const text = z.string().max(10_000);

export const setManifest = z.object({
  format: z.literal(1),
  /** Its name. */
  set: text,
  instance: text,
  /**
   * base: what a log begins with, taken when the recorder had to; automatic: by the policy; manual: by
   * hand; safety: before a restore overwrites something.
   */
  kind: z.enum(["base", "automatic", "manual", "safety"]),
  /** For people. */
  note: text.optional(),
  /** Where the snapshot stands in the history of the instance. */
  position: z.object({ replicationId: z.string().regex(/^[0-9a-f]{40}$/), offset: count }),
  /** The time there by the source's clock; and when the set was begun and was complete, by ours. */
  ms: count,
  startedMs: count,
  endedMs: count,
  /** The database that the stream has selected there, if the source said so. */
  database: z.nullable(count),
  source: z.object({
    /** The endpoint that it was taken from, its role and version. */
    name: text,
    role: z.enum(["master", "replica", "spool"]),
    version: text,
  }),
  /** What taking it cost the source; null where the source did not say. */
  cost: z.object({
    /** From the request to the first byte, and to the last one. */
    preparedMs: count,
    transferredMs: count,
    /** The source's `latest_fork_usec`. */
    forkMicros: z.nullable(count),
    /** The most copy-on-write memory that INFO showed. */
    copyOnWriteBytes: z.nullable(count),
    /** Of a PING that was asked for every few ms: in the time before, and while it was taken. */
    p99BeforeMs: z.nullable(z.number()),
    p99DuringMs: z.nullable(z.number()),
  }),
  snapshot: z.object({
    sizeBytes: count,
    sha256,
    rawBytes: count,
    rawSha256: sha256,
    /** As its first bytes say, "REDIS0011"; and how many keys it has, where they could be counted. */
    magic: z.nullable(text),
    keys: z.nullable(count),
  }),
  writer: text,
});

export type SetManifest = z.infer<typeof setManifest>;

export const maxManifestBytes = maxDocumentBytes;

/** That all of a set was read and found good, as `verified.json` says it. */
export const verifiedMark = z.object({
  format: z.literal(1),
  set: text,
  /** When, by our clock. */
  ms: count,
  /**
   * structure: the RDB was understood to its end. bytes: it is what was taken, but a part of it is
   * not known here (of a module, or of a newer server).
   */
  what: z.enum(["structure", "bytes"]),
  /** Of the snapshot's object. */
  sha256,
});

export type VerifiedMark = z.infer<typeof verifiedMark>;

/** That a set is not to be expired, as `keep.json` says it. It counts if it is there. */
export const keepMark = z.object({
  format: z.literal(1),
  set: text,
  /** Since when, by our clock. */
  ms: count,
  note: text.optional(),
});

export type KeepMark = z.infer<typeof keepMark>;

/** Of the object's name, which must be of the set that it tells of. @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED */
export function parseSetManifest(bytes: Uint8Array, object: string): SetManifest {
  const manifest = parseAs(setManifest, bytes, object);
  const { instance, set } = manifest;
  if (setObject(instance, set, "manifest") === object) return manifest;
  const found = `it is of set "${set}" of "${instance}"`;
  throw new Failure("DATA_CORRUPT", `Cannot read "${object}": ${found}`, {
    hint: "It was copied or renamed; a set restores only where it was put.",
  });
}

/** What the listing says against a set, beside its manifest. */
export function sizeFault(
  { snapshot }: SetManifest,
  listed: { readonly sizeBytes: number; readonly fault: string | undefined },
): string | undefined {
  if (listed.fault !== undefined || listed.sizeBytes === snapshot.sizeBytes) return listed.fault;
  return `its snapshot has ${listed.sizeBytes} bytes; its manifest says ${snapshot.sizeBytes}`;
}

export function formatSetManifest(manifest: SetManifest): Uint8Array {
  return formatDocument(setManifest.parse(manifest));
}

/** @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, naming the object */
export function parseVerifiedMark(bytes: Uint8Array, object: string): VerifiedMark {
  return parseAs(verifiedMark, bytes, object);
}

export function formatVerifiedMark(mark: VerifiedMark): Uint8Array {
  return formatDocument(verifiedMark.parse(mark));
}

/** @throws Failure DATA_CORRUPT, DATA_UNSUPPORTED, naming the object */
export function parseKeepMark(bytes: Uint8Array, object: string): KeepMark {
  return parseAs(keepMark, bytes, object);
}

export function formatKeepMark(mark: KeepMark): Uint8Array {
  return formatDocument(keepMark.parse(mark));
}

function parseAs<T>(schema: z.ZodType<T>, bytes: Uint8Array, object: string): T {
  const parsed = schema.safeParse(parseDocument(bytes, object));
  if (parsed.success) return parsed.data;
  const { path, message: found } = parsed.error.issues[0] ?? { path: [], message: "" };
  const message = `Cannot read "${object}": ${path.join(".") || "it"}: ${found}`;
  throw new Failure("DATA_CORRUPT", message);
}
