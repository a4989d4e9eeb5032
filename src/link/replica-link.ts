/**
 * A source followed as a replica follows it: the handshake, the snapshot, and the stream for ever.
 *
 *     await using link = await ReplicaLink.open(endpoint, { credentials });
 *     const start = await link.start(position);
 *     if (start.kind === "full") for await (const chunk of link.snapshot()) …
 *     for await (const chunk of link.stream()) …; link.ack(durableOffset);
 *
 * INVARIANTS
 *
 *   1. Every byte of the stream counts, and `offset` is the replication offset behind the last byte
 *      that was given out. What comes before the stream does not count.
 *   2. The source is read only when the consumer asks. Nothing is held but one chunk, so a slow
 *      consumer slows the connection, and the source's own limits say how long it bears that.
 *   3. A chunk is borrowed until the next one is asked for, and never empty.
 *   4. The iterators end well only where the snapshot is whole; the stream never ends but by a Failure.
 *   5. The last byte received is not acknowledged, unless it was said that it may be: see below.
 *   6. With `snapshotOnly` there is no stream, and nothing is ever acknowledged.
 *
 * NEVER PROMOTED. A plain FAILOVER hands the instance to the first replica whose acknowledged offset equals the
 * master's, and would take a recorder, which cannot serve: the instance stays read-only until
 * somebody aborts. Neither port nor address protect from that, so this link acknowledges at most
 * one byte less than it has received, and is thus never equal. WAIT and WAITAOF do not suffer: they put a
 * REPLCONF GETACK behind the write that they wait for, and the byte that is left out is one of that. A
 * history without any byte is acknowledged as 1, an offset at which no command can end, since
 * there all replicas, whatever they say, equal the master. No port is announced: INFO shows port 0, by
 * which topology.ts, Sentinel and people tell that nobody can connect.
 *
 * A server that is shut down waits, since 7.0, until its replicas have acknowledged all, up to
 * `shutdown-timeout`. Then `acknowledgesAll` is set, for as long as that lasts.
 *
 * REJECTED. PING: one permission more, and it says nothing that the next reply does not. SYNC, for servers
 * before 2.8: it has no offset. The snapshot over a second connection (`rdb-channel-repl`,
 * `dual-channel`): the stream would have to be held in memory while the snapshot comes.
 * `skip-rdb-checksum`: what is kept for years should have a checksum.
 */
import assert from "node:assert/strict";
import { empty, toLatin1 } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import { isReplicationId, type Position } from "../codec/aof/annotation.ts";
import type { Reply } from "../codec/resp/reply.ts";
import type { Endpoint } from "./address.ts";
import { Connection, type ConnectOptions, errorText, type Intake } from "./connection.ts";
import { refusal } from "./refusal.ts";
import { maxHeaderBytes, parseTransferHeader, Transfer, type TransferHeader } from "./transfer.ts";

export type ReplicaLinkOptions = Omit<ConnectOptions, "database" | "replyTimeoutMs"> & {
  /** The source is lost when nothing came for so long, not even a newline. As `repl-timeout`. */
  readonly silenceTimeoutMs?: number | undefined;
  /** What INFO on the source shows instead of the address that the connection is from. */
  readonly announcedHost?: string | undefined;
  /**
   * A snapshot and nothing behind it. Sources from 6.2 on then count this replica for nothing, and hang
   * up at its end; older ones do not know that, and lose a replica when the link is closed.
   */
  readonly snapshotOnly?: boolean | undefined;
};

/** Where the source starts: with a snapshot, or right behind the position that was asked for. */
export type Start = {
  readonly kind: "full" | "continue";
  /**
   * Of the first byte of the stream. After "continue" the id may be another than was asked for: a
   * replica was promoted, and the history goes on under its id.
   */
  readonly position: Position;
};

/** What can be read of RDB versions: from Valkey 9, version 80. Redis does not know the option. */
const announcedVersion = "9.0.0";
const defaultSilenceTimeoutMs = 60_000;
/** One read of the socket, and thus the largest chunk. */
const readBufferBytes = 256 * 1024;
/** Until the stream has begun: the source overhears what comes before its child has ended. */
const nudgeMs = 100;
/** A source that reads nothing gets no more acknowledgements: the next one says it all. */
const maxUnsentBytes = 16 * 1024;

const LF = 10;

type Phase = "greeted" | "snapshot" | "stream" | "over";

export class ReplicaLink implements AsyncDisposable {
  readonly #connection: Connection;
  #intake: Intake | undefined;
  #phase: Phase = "greeted";
  readonly #isSnapshotOnly: boolean;
  /** What is left of the last chunk: a part of it was of what came before. */
  #rest: Uint8Array = empty;
  #offset = 0;
  #header: TransferHeader | undefined;

  private constructor(connection: Connection, isSnapshotOnly: boolean) {
    this.#connection = connection;
    this.#isSnapshotOnly = isSnapshotOnly;
  }

  /**
   * Connects, logs in and says what this replica can do.
   *
   * @throws Failure as `Connection.open()`, and REPLICATION_REFUSED
   */
  static async open(endpoint: Endpoint, options: ReplicaLinkOptions = {}): Promise<ReplicaLink> {
    const { silenceTimeoutMs = defaultSilenceTimeoutMs, announcedHost, ...more } = options;
    const { snapshotOnly = false, ...rest } = more;
    const connection = await Connection.open(endpoint, {
      readBufferBytes,
      ...rest,
      replyTimeoutMs: silenceTimeoutMs,
    });
    try {
      const [, version] = await Promise.all([
        connection.ask("REPLCONF", "capa", "eof", "capa", "psync2"),
        connection.call("REPLCONF", "version", announcedVersion),
        announcedHost && connection.ask("REPLCONF", "ip-address", announcedHost),
        // Refused by 6.0, which then takes it for any replica.
        snapshotOnly && connection.call("REPLCONF", "rdb-only", 1),
      ]);
      const error = errorText(version);
      if (error !== undefined && !error.startsWith("ERR")) {
        throw refusal("REPLCONF", connection.name, error);
      }
      return new ReplicaLink(connection, snapshotOnly);
    } catch (cause) {
      await connection[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** The endpoint, for messages. */
  get name(): string {
    return this.#connection.name;
  }

  /** True while the source waits for its replicas to have all, and no FAILOVER can begin. */
  acknowledgesAll = false;

  /** The replication offset behind the last byte that was given out. */
  get offset(): number {
    return this.#offset;
  }

  /** How long the snapshot is, once its first chunk has come, and where the source knows it. */
  get snapshotBytes(): number | undefined {
    return this.#header?.kind === "sized" ? this.#header.sizeBytes : undefined;
  }

  /**
   * Asks for the stream from a position on, or for all.
   *
   * @throws Failure SERVER_BUSY where the source cannot now, SERVER_DENIED where the user may not,
   * REPLICATION_REFUSED where it never will, SERVER_LOST, PROTOCOL_ERROR
   */
  async start(from?: Position): Promise<Start> {
    assert(this.#phase === "greeted", "A link is started once");
    assert(!this.#isSnapshotOnly || from === undefined, "A snapshot alone starts anywhere");
    this.#phase = "over";
    const asked = from ? [from.replicationId, from.offset + 1] : ["?", -1];
    const { reply, intake } = await this.#connection.handOver("PSYNC", ...asked);
    this.#intake = intake;
    const start = parseStart(reply, from);
    this.#offset = start.position.offset;
    this.#phase = start.kind === "full" ? "snapshot" : "stream";
    return start;
  }

  /**
   * The bytes of the RDB. Behind them the source is told to go on with the stream, if that is wanted.
   *
   * @throws Failure SERVER_LOST, SERVER_BUSY, PROTOCOL_ERROR, DATA_CORRUPT, DATA_UNSUPPORTED
   */
  async *snapshot(): AsyncGenerator<Uint8Array, void, void> {
    assert(this.#phase === "snapshot", "A snapshot follows a full start, once");
    this.#phase = "over";
    let transfer: Transfer | undefined;
    try {
      this.#header = parseTransferHeader(await this.#readHeader());
      transfer = new Transfer(this.#header);
      while (!transfer.isDone) {
        const chunk = await this.#next();
        const { snapshotBytes, usedBytes } = transfer.take(chunk);
        this.#rest = chunk.subarray(usedBytes);
        if (snapshotBytes > 0) yield chunk.subarray(0, snapshotBytes);
      }
    } catch (cause) {
      throw this.#cut(cause, `${transfer?.sizeBytes ?? 0} bytes of the snapshot had come`);
    }
    if (this.#isSnapshotOnly) return;
    this.#phase = "stream";
    this.ack(0);
  }

  /** The bytes of the stream, for ever. @throws Failure SERVER_LOST, ABORTED */
  async *stream(): AsyncGenerator<Uint8Array, never, void> {
    assert(this.#phase === "stream", "The stream follows the snapshot, once");
    this.#phase = "over";
    // After a snapshot of unknown length the source sends nothing before it was acknowledged.
    const nudge = setInterval(() => this.ack(0), nudgeMs);
    try {
      for (;;) {
        const chunk = await this.#nextOfStream();
        clearInterval(nudge);
        this.#offset += chunk.length;
        assert(Number.isSafeInteger(this.#offset), "An offset is below 2^53");
        yield chunk;
      }
    } finally {
      clearInterval(nudge);
    }
  }

  /**
   * Tells the source up to where the stream is safe, and up to where it is on disk, for WAITAOF.
   * Sources that know no WAITAOF ignore the latter. It is not answered.
   */
  ack(offset: number, syncedOffset?: number): void {
    assert(this.#intake !== undefined, "Only what was started is acknowledged");
    if (this.#connection.unsentBytes > maxUnsentBytes) return;
    const most = this.#offset === 0 ? 1 : this.#offset - (this.acknowledgesAll ? 0 : 1);
    const acked = this.#offset === 0 ? 1 : Math.min(offset, most);
    const synced = syncedOffset === undefined ? [] : ["FACK", Math.min(syncedOffset, most)];
    this.#connection.send("REPLCONF", "ACK", acked, ...synced);
  }

  async #next(): Promise<Uint8Array> {
    const rest = this.#rest;
    this.#rest = empty;
    return rest.length > 0 ? rest : await (this.#intake as Intake).next();
  }

  async #nextOfStream(): Promise<Uint8Array> {
    try {
      return await this.#next();
    } catch (cause) {
      throw this.#cut(cause, `the stream stands at offset ${this.#offset}`);
    }
  }

  /** The line before the snapshot. Newlines before it say that the source is preparing it. */
  async #readHeader(): Promise<string> {
    let line = "";
    for (;;) {
      const chunk = await this.#next();
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at] as number;
        if (byte === LF && line === "") continue;
        line += String.fromCharCode(byte);
        if (line.length > maxHeaderBytes) return line;
        if (byte !== LF) continue;
        this.#rest = chunk.subarray(at + 1);
        const text = line.replace(/\r?\n$/, "");
        if (text.startsWith("-")) throw refusal("PSYNC", this.name, text.slice(1));
        return text;
      }
    }
  }

  /** Says of a connection that broke how far it had come. */
  #cut(cause: unknown, progress: string): unknown {
    if (!(cause instanceof Failure) || cause.code !== "SERVER_LOST") return cause;
    return new Failure("SERVER_LOST", `${cause.message}; ${progress}`, {
      cause,
      hint: "Its log says why: a failed snapshot, or client-output-buffer-limit for replicas.",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

/** What the source says to PSYNC. @throws Failure PROTOCOL_ERROR */
function parseStart(reply: Reply, from: Position | undefined): Start {
  const text = reply.type === "simple" ? toLatin1(reply.bytes) : `a reply of type ${reply.type}`;
  const [word, id = from?.replicationId ?? "", offsetText, ...more] = text.split(" ");
  const replicationId = id.toLowerCase();
  if (isReplicationId(replicationId) && more.length === 0) {
    const offset = /^\d{1,16}$/.test(offsetText ?? "") ? Number(offsetText) : Number.NaN;
    if (word === "FULLRESYNC" && Number.isSafeInteger(offset)) {
      return { kind: "full", position: { replicationId, offset } };
    }
    if (word === "CONTINUE" && offsetText === undefined && from !== undefined) {
      return { kind: "continue", position: { replicationId, offset: from.offset } };
    }
  }
  const found = JSON.stringify(text.slice(0, 100));
  throw new Failure("PROTOCOL_ERROR", `Cannot start the stream: the source says ${found} to PSYNC`);
}
