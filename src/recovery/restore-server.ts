/**
 * Restores to running servers: the keys of a snapshot by RESTORE and SET, then the log, replayed.
 *
 *   one server    keys of the set ─► log, in transactions (restore-replay.ts) ─► expiries moved back
 *   one server, where keys are chosen, renamed, or put among others; a cluster
 *                 keys of the data at that moment: of a set as it is, or replayed by a scratch server
 *
 * WHY a marker. From the first key on until all is done, a key `tidemark:restore…` in database 0 of
 * each master says that what is there is not whole, and how far it is. It is in the server and not in
 * a file here, because it has to be seen by whoever looks at the server, from whatever machine; and
 * because it moves on in the same transaction as the data do, a restore that was cut off goes on from
 * it: keys from the last `keysPerMark`, the log exactly where it was.
 *
 * INVARIANTS
 *
 *   1. A server that has keys is refused unless it was said what shall become of them. It is emptied
 *      only after `safety()` has returned.
 *   2. A server with the marker of another restore is not gone on with.
 *   3. The first error that a server answers ends the restore; the marker stays.
 *
 * REJECTED. To make the server our replica, which would be as exact and faster: it has to reach us,
 * managed ones may not, and clusters cannot. To replay a log into a cluster: commands with keys
 * of several slots would have to be taken apart, which most cannot be.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "../base/clock.ts";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Target } from "../codec/rdb/model.ts";
import { type Address, type Endpoint, formatEndpoint } from "../link/address.ts";
import { Connection, type ConnectOptions, errorText } from "../link/connection.ts";
import { clusterInstances, type Info, parseInfo, type SlotRange } from "../link/instance.ts";
import { refusal } from "../link/refusal.ts";
import { itemsOf, textOf } from "../link/reply-values.ts";
import { Topology } from "../link/topology.ts";
import { type ExpiryPolicy, KeyPipe } from "./key-pipe.ts";
import { readLog } from "./log-reader.ts";
import type { Plan } from "./plan.ts";
import { type HeldSnapshot, openData } from "./restore-data.ts";
import { type ExpiryRule, releaseExpiries, versionOf } from "./restore-expiries.ts";
import { KeyCommands, Lane } from "./restore-keys.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { Pipeline } from "./restore-pipeline.ts";
import { type OnProgress, ProgressCounter } from "./restore-progress.ts";
import { type Batch, heldMs, LogCommands, type ReplayPosition } from "./restore-replay.ts";
import { keyInSlots } from "./restore-slots.ts";
import { openSnapshot, pushAll } from "./restore-snapshot.ts";
import { isEverything, type Selection } from "./selection.ts";

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
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly clock?: Clock;
};

export type RestoredServer = {
  readonly servers: readonly string[];
  readonly keys: number;
  /** Under "skip": those that were there. */
  readonly skipped: number;
  readonly commands: number;
  readonly dropped: ReadonlyMap<string, number>;
  /** Whether it went on with one that was cut off. */
  readonly isResumed: boolean;
};

const markerName = "tidemark:restore";
const keysPerMark = 200_000;

type Phase = "keys" | "log" | "expiries";

/** What the marker says. */
type Mark = {
  readonly plan: string;
  readonly phase: Phase;
  /** Keys that are there; bytes of the log that were replayed, and the database selected then. */
  readonly keys: number;
  readonly bytes: number;
  readonly database: number | null;
};

/** A master. */
type Node = {
  readonly endpoint: Endpoint;
  readonly control: Connection;
  readonly info: Info;
  readonly slots: readonly SlotRange[] | undefined;
  readonly marker: string;
  readonly lane: Lane;
};

/** @throws Failure of the servers and of the archive; TARGET_NOT_EMPTY */
export async function restoreToServer(
  view: ArchiveView,
  plan: Plan,
  address: Address,
  options: ServerOptions = {},
): Promise<RestoredServer> {
  await using stack = new AsyncDisposableStack();
  const nodes = await openNodes(address, options, stack);
  const job = new ServerJob(view, plan, nodes, options, stack);
  return await job.run();
}

/** The masters that have the data. */
async function openNodes(
  address: Address,
  { connect = {}, signal }: ServerOptions,
  stack: AsyncDisposableStack,
): Promise<Node[]> {
  const open = async (endpoint: Endpoint) =>
    stack.use(await Connection.open(endpoint, { ...connect, signal, replyTimeoutMs: patienceMs }));
  const first = await findFirst(address, { ...connect, signal });
  const control = await open(first);
  const info = await readInfo(control);
  if (info.get("cluster_enabled") !== "1") {
    return [nodeOf({ endpoint: first, control, info, slots: undefined })];
  }
  const shards = clusterInstances(await control.ask("CLUSTER", "SLOTS"), first);
  const nodes: Node[] = [];
  for (const { members, slots = [] } of shards) {
    const endpoint = members.find(({ role }) => role === "master")?.endpoint;
    if (endpoint === undefined) throw new Failure("SERVER_BUSY", "Cannot find a shard's master");
    const link = await open(endpoint);
    nodes.push(nodeOf({ endpoint, control: link, info: await readInfo(link), slots }));
  }
  return nodes;
}

const patienceMs = 10 * 60 * 1000;
/** What CLIENT LIST shows of a restore. */
const clientName = "tidemark-restore";
/** So long another one may take to be gone. */
const othersPatienceMs = 30_000;
const othersPollMs = 250;
const beginning: Omit<Mark, "plan"> = { phase: "keys", keys: 0, bytes: 0, database: null };

async function findFirst(
  address: Address,
  options: Pick<ConnectOptions, "credentials" | "tls" | "signal">,
): Promise<Endpoint> {
  if (address.kind === "server") return address.endpoint;
  await using topology = new Topology(address, options);
  for (const { members } of await topology.read()) {
    const master = members.find(({ role }) => role === "master");
    if (master !== undefined) return master.endpoint;
  }
  throw new Failure("SERVER_BUSY", "Cannot restore: there is no master now");
}

function nodeOf(node: Omit<Node, "marker" | "lane">): Node {
  const marker = node.slots === undefined ? markerName : keyInSlots(markerName, node.slots);
  return { ...node, marker, lane: new Lane() };
}

async function readInfo(connection: Connection): Promise<Info> {
  return parseInfo(textOf(await connection.ask("INFO")) ?? "");
}

/** What a server of some version takes. */
function targetOfServer(info: Info): Target {
  const version = versionOf(info);
  if (info.has("valkey_version")) return version >= 9 ? "valkey:9" : "valkey:8";
  if (version >= 8) return "redis:8";
  if (version >= 7.04) return "redis:7.4";
  if (version >= 7.02) return "redis:7.2";
  return version >= 7 ? "redis:7.0" : "redis:6.0";
}

class ServerJob {
  readonly #view: ArchiveView;
  readonly #plan: Plan;
  readonly #nodes: readonly Node[];
  readonly #options: ServerOptions;
  readonly #stack: AsyncDisposableStack;
  readonly #clock: Clock;
  readonly #progress: ProgressCounter;
  #skipped = 0;
  /** Connections are named, so that another restore sees them. */
  #isNamed = false;
  /** Commands of the pipeline up to here may have been executed before. */
  #repeated = 0;
  #keys = 0;
  #dropped: ReadonlyMap<string, number> = new Map();

  constructor(
    view: ArchiveView,
    plan: Plan,
    nodes: readonly Node[],
    options: ServerOptions,
    stack: AsyncDisposableStack,
  ) {
    this.#view = view;
    this.#plan = plan;
    this.#nodes = nodes;
    this.#options = options;
    this.#stack = stack;
    this.#clock = options.clock ?? systemClock;
    this.#progress = new ProgressCounter(plan.rawBytes, options.onProgress);
  }

  async run(): Promise<RestoredServer> {
    for (const { info, endpoint } of this.#nodes) checkServer(info, endpoint);
    for (const node of this.#nodes) await this.#waitForOthers(node);
    const mark = await this.#findMark();
    // What is needed is looked for before anything is changed.
    await using data = await this.#open();
    if (mark === undefined) await this.#makeRoom();
    const pipelines = await this.#openPipelines();
    if (mark === undefined || mark.phase === "keys") {
      await this.#restoreKeys(data, pipelines, mark?.keys ?? 0);
    }
    if (this.#replays) {
      if (mark?.phase !== "expiries") await this.#replay(pipelines[0] as Pipeline, mark);
      await this.#mark({ phase: "expiries", keys: 0, bytes: 0, database: null });
      await this.#release();
    }
    for (const { control, marker } of this.#nodes) await control.ask("DEL", marker);
    this.#progress.begin("done");
    return {
      servers: this.#nodes.map(({ endpoint }) => formatEndpoint(endpoint)),
      keys: this.#keys,
      skipped: this.#skipped,
      commands: this.#progress.commands,
      dropped: this.#dropped,
      isResumed: mark !== undefined,
    };
  }

  /** Whether the log is replayed into the server itself. */
  get #replays(): boolean {
    return this.#plan.log !== undefined && !this.#needsData;
  }

  get #needsData(): boolean {
    const { selection = {}, prefix, conflict, databases } = this.#options;
    const isChosen = !isEverything(selection) || prefix !== undefined || databases !== undefined;
    return isChosen || conflict !== undefined || this.#nodes[0]?.slots !== undefined;
  }

  async #open(): Promise<HeldSnapshot> {
    const { server, signal } = this.#options;
    if (!this.#replays) return await openData(this.#view, this.#plan, { server, signal });
    const snapshot = await openSnapshot(this.#view, this.#plan);
    return { ...snapshot, [Symbol.asyncDispose]: async () => {} };
  }

  /**
   * Makes sure that no other restore writes to a server: one that is under way, or one that was killed and
   * whose commands still arrive from something in between. A user who may not use CLIENT is believed.
   *
   * @throws Failure SERVER_BUSY
   */
  async #waitForOthers({ control, endpoint }: Node): Promise<void> {
    const named = await control.call("CLIENT", "SETNAME", clientName);
    if (errorText(named) !== undefined) return;
    this.#isNamed = true;
    const own = textOf(await control.ask("CLIENT", "ID"));
    for (const end = performance.now() + othersPatienceMs; ; ) {
      const list = await control.call("CLIENT", "LIST");
      const lines = errorText(list) === undefined ? (textOf(list) ?? "").split("\n") : [];
      const isOther = (line: string) =>
        line.includes(` name=${clientName} `) && !line.startsWith(`id=${own} `);
      if (!lines.some(isOther)) return;
      if (performance.now() > end) {
        const found = "another restore is connected";
        throw new Failure(
          "SERVER_BUSY",
          `Cannot restore into ${formatEndpoint(endpoint)}: ${found}`,
          {
            hint: `Wait until it has ended, or end it: CLIENT LIST shows it as ${clientName}.`,
          },
        );
      }
      await sleep(othersPollMs, undefined, { signal: this.#options.signal });
    }
  }

  /** Where a restore of the same plan was cut off. @throws Failure where another one was */
  async #findMark(): Promise<Mark | undefined> {
    const marks: (Mark | undefined)[] = [];
    for (const { control, marker } of this.#nodes) {
      const text = textOf(await control.ask("GET", marker));
      marks.push(text === undefined ? undefined : parseMark(text));
    }
    const [first] = marks;
    const found = marks.filter((mark) => mark !== undefined);
    if (found.length === 0) return undefined;
    const isSame = found.every(({ plan }) => plan === this.#id);
    if (!isSame) {
      if (this.#options.overwrite) return undefined;
      const message = "Cannot restore: another restore into this server was cut off";
      throw new Failure("TARGET_NOT_EMPTY", message, {
        hint: "Repeat that one to go on with it, or empty the server with --overwrite.",
      });
    }
    if (found.length === marks.length || first?.phase !== "keys") return first;
    // A cluster of which some masters were not marked yet: they have no keys of it either.
    return { plan: this.#id, phase: "keys", keys: 0, bytes: 0, database: null };
  }

  /** The same only for what restores the same in the same way. */
  get #id(): string {
    const { selection, prefix, conflict, ttl, databases } = this.#options;
    const parts = [selection, selection?.regex?.source, conflict, ttl];
    const others = [prefix && Buffer.from(prefix).toString("hex"), [...(databases ?? [])]];
    return `${this.#plan.id} ${JSON.stringify([...parts, ...others])}`;
  }

  /** Makes sure that what is there may be there, and sets the marker. */
  async #makeRoom(): Promise<void> {
    const { overwrite = false, conflict, safety } = this.#options;
    const taken = this.#nodes.filter(({ info }) =>
      [...info.keys()].some((name) => /^db\d+$/.test(name)),
    );
    if (taken.length > 0 && !overwrite && conflict === undefined) {
      const names = taken.map(({ endpoint }) => formatEndpoint(endpoint)).join(", ");
      throw new Failure("TARGET_NOT_EMPTY", `Cannot restore into ${names}: there are keys`, {
        hint: "Empty it with --overwrite, or keep what is there with --conflict skip|overwrite|fail.",
      });
    }
    if (taken.length > 0 && overwrite && conflict === undefined) {
      await safety?.();
      for (const node of this.#nodes) await this.#empty(node);
    }
    await this.#mark(beginning);
  }

  /** Empties a server and marks it in one step: without the mark, an empty one would look whole. */
  async #empty({ control, info, marker }: Node): Promise<void> {
    const commands = [
      ["MULTI"],
      ["FLUSHALL"],
      ...(versionOf(info) >= 7 ? [["FUNCTION", "FLUSH"]] : []),
      ["SET", marker, this.#markOf(beginning)],
      ["EXEC"],
    ];
    const replies = await Promise.all(commands.map((args) => control.ask(...args)));
    for (const reply of itemsOf(replies.at(-1))) {
      const error = errorText(reply);
      if (error !== undefined) throw refusal("EXEC", control.name, error);
    }
  }

  #markOf(mark: Omit<Mark, "plan">): string {
    return JSON.stringify({ plan: this.#id, ...mark });
  }

  async #mark(mark: Omit<Mark, "plan">): Promise<void> {
    for (const { control, marker } of this.#nodes) {
      await control.ask("SET", marker, this.#markOf(mark));
    }
  }

  async #openPipelines(): Promise<Pipeline[]> {
    const { connect = {}, signal, conflict } = this.#options;
    const allows = (error: string, number: number) => {
      // What is repeated may meet a key of the type that it got later on, to be deleted again.
      if (number < this.#repeated) return error.startsWith("WRONGTYPE");
      if (conflict !== "skip" || !error.startsWith("BUSYKEY")) return false;
      this.#skipped++;
      return true;
    };
    const pipelines: Pipeline[] = [];
    for (const { endpoint } of this.#nodes) {
      const clientNames = this.#isNamed ? { clientName } : {};
      const pipeline = await Pipeline.open(endpoint, {
        ...connect,
        ...clientNames,
        signal,
        allows,
      });
      pipelines.push(this.#stack.use(pipeline));
    }
    return pipelines;
  }

  async #restoreKeys(
    data: HeldSnapshot,
    pipelines: readonly Pipeline[],
    done: number,
  ): Promise<void> {
    const { conflict, databases, lossy = false, selection, prefix, signal } = this.#options;
    const lanes = this.#nodes.map(({ lane }) => lane);
    const commands = new KeyCommands({
      target: targetOfServer((this.#nodes[0] as Node).info),
      lossy,
      lanes,
      ...(this.#nodes[0]?.slots !== undefined && { laneOf: laneOf(this.#nodes) }),
      replaces: conflict === undefined || conflict === "overwrite",
      ...(databases && { databases }),
      skipKeys: done,
    });
    const pipe = new KeyPipe(commands, {
      ...(selection && { selection }),
      ...(prefix && { prefix }),
      expiry: this.#expiry,
    });
    this.#progress.begin("snapshot");
    let marked = done;
    await pushAll(data, pipe, async (bytes) => {
      signal?.throwIfAborted();
      await sendAll(lanes, pipelines);
      this.#progress.keys = commands.keys;
      this.#progress.add(bytes);
      if (commands.keys < marked + keysPerMark) return;
      for (const pipeline of pipelines) await pipeline.drain();
      marked = commands.keys;
      await this.#mark({ phase: "keys", keys: marked, bytes: 0, database: null });
    });
    for (const pipeline of pipelines) await pipeline.drain();
    this.#keys = commands.keys;
    this.#dropped = commands.dropped;
  }

  get #expiry(): ExpiryPolicy {
    // Put off, as those in the log are.
    if (this.#replays) return { kind: "shift", fromMs: 0, toMs: heldMs };
    const { ttl = "keep" } = this.#options;
    if (ttl === "keep" || ttl === "persist") return { kind: ttl };
    return { kind: "shift", fromMs: this.#shiftFromMs, toMs: this.#clock.now() };
  }

  get #shiftFromMs(): number {
    const { ttl } = this.#options;
    return typeof ttl === "object" ? ttl.shiftFromMs : this.#plan.moment.ms;
  }

  async #replay(pipeline: Pipeline, mark: Mark | undefined): Promise<void> {
    const { log } = this.#plan;
    if (log === undefined) return;
    const { signal } = this.#options;
    const { marker, info } = this.#nodes[0] as Node;
    const from =
      mark?.phase === "log"
        ? { bytes: mark.bytes, database: mark.database ?? undefined }
        : { bytes: 0, database: log.start.database };
    const describe = (at: ReplayPosition) => {
      const place = { bytes: at.bytes, database: at.database ?? null };
      const mark = { plan: this.#id, phase: "log", keys: this.#keys, ...place };
      return [marker, JSON.stringify(mark)] as const;
    };
    const commands = new LogCommands(from, describe, versionOf(info) < 6.02);
    this.#progress.begin("log");
    let at = 0;
    let isRepeated = mark?.phase === "log";
    const send = async ({ parts, commands: count, records }: Batch) => {
      if (isRepeated) this.#repeated = pipeline.commands + count;
      isRepeated = false;
      await pipeline.send(parts, count);
      this.#progress.commands += records;
    };
    for await (const chunk of readLog(this.#view, log, { signal })) {
      const rest = chunk.subarray(Math.max(0, from.bytes - at));
      at += chunk.length;
      for (const batch of commands.push(rest)) await send(batch);
      this.#progress.add(chunk.length);
    }
    const last = commands.finish();
    if (last !== undefined) await send(last);
    await pipeline.drain();
  }

  /** Moves the expiries back that were put off. */
  async #release(): Promise<void> {
    const { control, info } = this.#nodes[0] as Node;
    this.#progress.begin("expiries");
    const { ttl = "keep" } = this.#options;
    const [fromMs, toMs] = [this.#shiftFromMs, this.#clock.now()];
    const rule: ExpiryRule =
      ttl === "keep"
        ? (atMs) => atMs
        : ttl === "persist"
          ? () => "none"
          : (atMs) => (atMs <= fromMs ? "gone" : atMs - fromMs + toMs);
    const version = versionOf(info);
    const onKeys = () => this.#progress.add(0);
    await releaseExpiries(control, { rule, version, onKeys });
  }
}

function checkServer(info: Info, endpoint: Endpoint): void {
  const name = formatEndpoint(endpoint);
  if (info.get("loading") === "1") {
    throw new Failure("SERVER_BUSY", `Cannot restore into ${name}: it is loading its data`);
  }
  if (info.get("role") !== "master") {
    throw new Failure("USAGE", `Cannot restore into ${name}: it is a replica`, {
      hint: "Name its master.",
    });
  }
}

function parseMark(text: string): Mark {
  try {
    const mark = JSON.parse(text) as Mark;
    const numbers = [mark.keys, mark.bytes];
    if (typeof mark.plan === "string" && numbers.every(Number.isSafeInteger)) return mark;
  } catch {
    // Whatever it is, it is nothing that could be gone on with.
  }
  return { plan: "", phase: "keys", keys: 0, bytes: 0, database: null };
}

function laneOf(nodes: readonly Node[]): (slot: number) => Lane {
  const lanes: Lane[] = [];
  for (const { slots = [], lane } of nodes) {
    for (const [first, last] of slots) for (let i = first; i <= last; i++) lanes[i] = lane;
  }
  return (slot) => {
    const lane = lanes[slot];
    if (lane !== undefined) return lane;
    throw new Failure("SERVER_BUSY", `Cannot restore: no node of the cluster has slot ${slot}`);
  };
}

async function sendAll(lanes: readonly Lane[], pipelines: readonly Pipeline[]): Promise<void> {
  for (const [i, lane] of lanes.entries()) {
    const { parts, commands } = lane.take();
    await (pipelines[i] as Pipeline).send(parts, commands);
  }
}
