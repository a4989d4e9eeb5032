/** What is asked of a restore into running servers, and what it tells of itself. */
import type { Clock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { ConnectOptions } from "../link/connection.ts";
import type { OnProgress } from "./restore-progress.ts";
import type { Selection } from "./selection.ts";

export type ServerOptions = {
  readonly connect?: Pick<ConnectOptions, "credentials" | "tls">;
  /** Empties a server that has keys, after `safety()`. */
  readonly overwrite?: boolean;
  /** Keeps what is there, and says what becomes of keys that are there already. */
  readonly conflict?: "skip" | "overwrite" | "fail";
  /** Takes a safety backup of what is there; called before anything is removed. */
  readonly safety?: () => Promise<void>;
  readonly selection?: Selection;
  readonly prefix?: Uint8Array;
  /** What becomes of expiries; the moment that they count from is that of the plan, if not given. */
  readonly ttl?: "keep" | "persist" | "shift" | { readonly shiftFromMs: number };
  /** Databases that become others. */
  readonly databases?: ReadonlyMap<number, number>;
  readonly lossy?: boolean;
  /** A stock server for what needs a replay elsewhere. */
  readonly server?: string | undefined;
  /** Whether the instance is a shard of a cluster: see `openData()`. */
  readonly isShard?: boolean;
  /** So often the marker is moved on. */
  readonly keysPerMark?: number;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly clock?: Clock;
};

export type RestoredServer = {
  readonly servers: readonly string[];
  /** Those that were sent, without those that were there and stayed. */
  readonly keys: number;
  /** Under "skip": those that were there; and function libraries, that were there or have a function that was. */
  readonly skipped: number;
  readonly skippedLibraries: number;
  /** Whether the log was replayed into the server: then nobody counted the keys that came of it. */
  readonly isReplayed: boolean;
  /** Of a cluster: keys on shards that did not have their slots. Not restored; and restored, as nobody had them else. */
  readonly leftovers: number;
  readonly unsettled: number;
  readonly commands: number;
  readonly dropped: ReadonlyMap<string, number>;
  /** Whether it went on with one that was cut off. */
  readonly isResumed: boolean;
  /** What else whoever restores should know, in words. */
  readonly notes: readonly string[];
};

/** @throws Failure USAGE */
export function mustNotMix({ overwrite = false, conflict }: ServerOptions): void {
  if (!overwrite || conflict === undefined) return;
  const found = "--overwrite empties the server, --conflict keeps what is there";
  throw new Failure("USAGE", `Cannot restore with both: ${found}`, { hint: "Say one of them." });
}
