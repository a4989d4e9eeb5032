/**
 * Restores to running servers: the keys of a snapshot by RESTORE and SET, then the log, replayed.
 *
 *   one server    keys of the set ─► log, in transactions (restore-replay.ts) ─► expiries moved back
 *   one server, where keys are chosen, renamed, or put among others; a cluster
 *                 keys of the data at that moment: of a set as it is, or replayed by a scratch server
 *   from a cluster the same, of one shard after the other: whose copy of a key counts, its slot says
 *
 * WHY a marker. From the first key on until all is done, a key `tidemark:restore…` in database 0 of
 * each master says that what is there is not whole, and how far it is. It is in the server and not in
 * a file here, because it has to be seen by whoever looks at the server, from whatever machine; and
 * because it moves on in the same transaction as the data do, a restore that was cut off goes on from
 * it: keys from the last `keysPerMark`, the log exactly where it was. Of what a scratch server has replayed the
 * keys come in another order each time: these are begun again, or from the last shard that was whole.
 *
 * INVARIANTS
 *
 *   1. A server that has keys is refused unless it was said what shall become of them. It is emptied
 *      only after `safety()` has returned.
 *   2. A server with the marker of another restore is not gone on with.
 *   3. The first error that a server answers ends the restore; the marker stays.
 *   4. Keys are passed over only where it is certain that they were restored: `keys` of a marker counts those
 *      of a file that is the same each time.
 *
 * REJECTED. To make the server our replica, which would be as exact and faster: it has to reach us,
 * managed ones may not, and clusters cannot. To replay a log into a cluster: commands with keys
 * of several slots would have to be taken apart, which most cannot be.
 */
import type { Clock } from "../base/clock.ts";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { quote } from "../codec/rdb/target.ts";
import { type Address, formatEndpoint } from "../link/address.ts";
import { type ConnectOptions, errorText } from "../link/connection.ts";
import { refusal } from "../link/refusal.ts";
import { itemsOf } from "../link/reply-values.ts";
import type { ClusterPlan } from "./cluster-plan.ts";
import { type SlotRules, slotRules } from "./cluster-rules.ts";
import { type ExpiryPolicy, KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";
import { readLog } from "./log-reader.ts";
import type { Plan } from "./plan.ts";
import { findConflict } from "./restore-conflicts.ts";
import { type HeldSnapshot, mustHaveServer, openData } from "./restore-data.ts";
import { type ExpiryRule, releaseExpiries, versionOf } from "./restore-expiries.ts";
import { type KeyChoice, KeyCommands, type Lane } from "./restore-keys.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { beginning, type Mark, readMarks } from "./restore-marker.ts";
import {
  checkNode,
  clientName,
  laneBySlot,
  type Node,
  openNodes,
  targetOfServer,
  waitForOthers,
} from "./restore-nodes.ts";
import { Pipeline } from "./restore-pipeline.ts";
import { type OnProgress, ProgressCounter } from "./restore-progress.ts";
import { type Batch, heldMs, LogCommands, type ReplayPosition } from "./restore-replay.ts";
import { openSnapshot, pushAll } from "./restore-snapshot.ts";
import { sweepScratchFolders } from "./scratch-folder.ts";
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
  /** Under "skip": those that were there. */
  readonly skipped: number;
  /** Of a cluster: keys on shards that did not have their slots. Not restored; and restored, as nobody had them else. */
  readonly leftovers: number;
  readonly unsettled: number;
  readonly commands: number;
  readonly dropped: ReadonlyMap<string, number>;
  /** Whether it went on with one that was cut off. */
  readonly isResumed: boolean;
};

const defaultKeysPerMark = 200_000;

/** Data that are restored as one: of an instance, or of a shard, with whose copies count. */
type Step = {
  readonly plan: Plan;
  readonly rules?: SlotRules;
  /** What there is of a key twice, and which of them is taken, where it is not both at once. */
  readonly side?: "winners" | "losers";
};

type Work = {
  readonly id: string;
  readonly steps: readonly Step[];
  /** The moment that expiries count from. */
  readonly ms: number;
  readonly rawBytes: number;
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
  const { id, moment, rawBytes } = plan;
  const work = { id, ms: moment.ms, rawBytes, steps: [{ plan }] };
  return await new ServerJob(view, work, nodes, options, stack).run();
}

/**
 * All shards of a cluster, to one server or to a cluster of any number of shards.
 *
 * @throws Failure as `restoreToServer()`; SERVER_NEEDED
 */
export async function restoreClusterToServer(
  view: ArchiveView,
  { id, ms, rawBytes, shards }: ClusterPlan,
  address: Address,
  options: ServerOptions = {},
): Promise<RestoredServer> {
  const { conflict, server } = options;
  if (conflict === "fail") {
    const found = "a key that is there may be of another shard, or of this restore";
    throw new Failure("USAGE", `Cannot restore a cluster with --conflict fail: ${found}`, {
      hint: "Restore into an empty one, or say --conflict skip or overwrite.",
    });
  }
  mustHaveServer(
    shards.map(({ plan }) => plan),
    server,
  );
  const of = (side?: "winners" | "losers") =>
    shards.map(({ plan, rules }): Step => ({ plan, rules, ...(side && { side }) }));
  // Where all that is there is replaced, or none of it, it is the order that decides.
  const steps =
    conflict === undefined
      ? of()
      : conflict === "skip"
        ? [...of("winners"), ...of("losers")]
        : [...of("losers"), ...of("winners")];
  await using stack = new AsyncDisposableStack();
  const nodes = await openNodes(address, options, stack);
  const work = { id, ms, rawBytes: (rawBytes * steps.length) / shards.length, steps };
  return await new ServerJob(view, work, nodes, options, stack).run();
}

class ServerJob {
  readonly #view: ArchiveView;
  readonly #work: Work;
  /** Of an instance, the only one. */
  readonly #plan: Plan;
  readonly #nodes: readonly Node[];
  readonly #options: ServerOptions;
  readonly #stack: AsyncDisposableStack;
  readonly #clock: Clock;
  readonly #progress: ProgressCounter;
  #skipped = 0;
  #leftovers = 0;
  #unsettled = 0;
  /** Connections are named, so that another restore sees them. */
  #isNamed = false;
  /** Masters that have a marker and nothing else, where it was cut off before all had one. */
  #begun: ReadonlySet<Node> = new Set();
  /** Commands of the pipeline up to here may have been executed before. */
  #repeated = 0;
  #keys = 0;
  readonly #dropped = new Map<string, number>();

  constructor(
    view: ArchiveView,
    work: Work,
    nodes: readonly Node[],
    options: ServerOptions,
    stack: AsyncDisposableStack,
  ) {
    this.#view = view;
    this.#work = work;
    this.#plan = (work.steps[0] as Step).plan;
    this.#nodes = nodes;
    this.#options = options;
    this.#stack = stack;
    this.#clock = options.clock ?? systemClock;
    this.#progress = new ProgressCounter(work.rawBytes, options.onProgress);
  }

  async run(): Promise<RestoredServer> {
    for (const node of this.#nodes) checkNode(node);
    for (const node of this.#nodes) {
      if (await waitForOthers(node, this.#options.signal)) this.#isNamed = true;
    }
    const mark = await this.#findMark();
    // Where all of its data were there, nobody else would remove what it left on this machine.
    if (mark !== undefined) await sweepScratchFolders(systemClock.now());
    if (mark === undefined || mark.phase === "keys") await this.#restoreSteps(mark);
    if (this.#replays) {
      const pipelines = await this.#openPipelines();
      if (mark?.phase !== "expiries") await this.#replay(pipelines[0] as Pipeline, mark);
      await this.#mark({ ...beginning, phase: "expiries" });
      await this.#release();
    }
    for (const { control, marker } of this.#nodes) await control.ask("DEL", marker);
    this.#progress.begin("done");
    return {
      servers: this.#nodes.map(({ endpoint }) => formatEndpoint(endpoint)),
      keys: this.#keys,
      skipped: this.#options.conflict === "skip" ? this.#skipped : 0,
      leftovers: this.#leftovers,
      unsettled: this.#unsettled,
      commands: this.#progress.commands,
      dropped: this.#dropped,
      isResumed: mark !== undefined,
    };
  }

  async #restoreSteps(mark: Mark | undefined): Promise<void> {
    if (mark !== undefined && this.#options.conflict === "fail") throw cannotTell(this.#nodes);
    let hasRoom = mark !== undefined;
    for (const [number, step] of this.#work.steps.entries()) {
      if (number < (mark?.steps ?? 0)) continue;
      // What is needed is looked for before anything is changed.
      await using data = await this.#open(step);
      if (this.#options.conflict === "fail") await this.#mustNotMeet(data);
      if (!hasRoom) await this.#makeRoom();
      hasRoom = true;
      await using stack = new AsyncDisposableStack();
      const pipelines = await this.#openPipelines(stack);
      const isSameEachTime = this.#replays || step.plan.log === undefined;
      const done = number === mark?.steps && isSameEachTime ? mark.keys : 0;
      await this.#restoreKeys({ data, step, number, done, isSameEachTime }, pipelines);
      if (!this.#replays) await this.#mark({ ...beginning, steps: number + 1 });
    }
  }

  /** Whether the log is replayed into the server itself. */
  get #replays(): boolean {
    return this.#plan.log !== undefined && !this.#needsData;
  }

  get #needsData(): boolean {
    const { selection = {}, prefix, conflict, databases } = this.#options;
    const isChosen = !isEverything(selection) || prefix !== undefined || databases !== undefined;
    const isShard = this.#work.steps[0]?.rules !== undefined;
    return isChosen || isShard || conflict !== undefined || this.#nodes[0]?.slots !== undefined;
  }

  async #open({ plan, rules }: Step): Promise<HeldSnapshot> {
    const { server, signal, isShard = rules !== undefined } = this.#options;
    if (!this.#replays) return await openData(this.#view, plan, { server, signal, isShard });
    const snapshot = await openSnapshot(this.#view, plan);
    return { ...snapshot, [Symbol.asyncDispose]: async () => {} };
  }

  /**
   * Where a restore of the same plan was cut off. Where just some masters of a cluster are marked, it was at
   * its end, or at its beginning: then others may still have what was there before.
   *
   * @throws Failure where another one was
   */
  async #findMark(): Promise<Mark | undefined> {
    const marks = await readMarks(this.#nodes);
    const found = marks.filter((mark) => mark !== undefined);
    if (found.every(({ plan }) => plan === this.#id)) {
      if (found.length === marks.length) return marks[0];
      const end = this.#work.steps.length;
      const last = found.find(({ phase, steps }) => phase === "keys" && steps === end);
      if (last === undefined) this.#begun = new Set(this.#nodes.filter((_, i) => marks[i]));
      return last;
    }
    if (this.#options.overwrite) return undefined;
    const message = "Cannot restore: another restore into this server was cut off";
    throw new Failure("TARGET_NOT_EMPTY", message, {
      hint: "Repeat that one to go on with it, or empty the server with --overwrite.",
    });
  }

  /** The same only for what restores the same in the same way. */
  get #id(): string {
    const { selection, prefix, conflict, ttl, databases } = this.#options;
    const parts = [selection, selection?.regex?.source, conflict, ttl];
    const others = [prefix && Buffer.from(prefix).toString("hex"), [...(databases ?? [])]];
    return `${this.#work.id} ${JSON.stringify([...parts, ...others])}`;
  }

  /** Makes sure that what is there may be there, and sets the marker. */
  async #makeRoom(): Promise<void> {
    const { overwrite = false, conflict, safety } = this.#options;
    const taken = this.#nodes.filter(
      (node) =>
        !this.#begun.has(node) && [...node.info.keys()].some((name) => /^db\d+$/.test(name)),
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

  /** @throws Failure TARGET_NOT_EMPTY naming a key that is there */
  async #mustNotMeet(data: HeldSnapshot): Promise<void> {
    const { databases, signal } = this.#options;
    const found = await findConflict(data, this.#nodes, {
      ...{ databases, signal },
      pipe: this.#choice,
    });
    if (found === undefined) return;
    const message = `Cannot restore key ${quote(found.key)}: database ${found.database} has it`;
    throw new Failure("TARGET_NOT_EMPTY", message, {
      hint: "Nothing was restored. Say --conflict skip or overwrite, or put something in front of all keys: --prefix-add.",
    });
  }

  #markOf(mark: Omit<Mark, "plan">): string {
    return JSON.stringify({ plan: this.#id, ...mark });
  }

  async #mark(mark: Omit<Mark, "plan">): Promise<void> {
    for (const { control, marker } of this.#nodes) {
      await control.ask("SET", marker, this.#markOf(mark));
    }
  }

  async #openPipelines(stack = this.#stack): Promise<Pipeline[]> {
    const { connect = {}, signal, conflict } = this.#options;
    const isShard = this.#work.steps[0]?.rules !== undefined;
    const allows = (error: string, number: number) => {
      // What is repeated may meet a key of the type that it got later on, to be deleted again.
      if (number < this.#repeated) return error.startsWith("WRONGTYPE");
      // Another shard's copy of a key is there, where that one counts.
      if ((conflict !== "skip" && !isShard) || !error.startsWith("BUSYKEY")) return false;
      this.#skipped++;
      return true;
    };
    const pipelines: Pipeline[] = [];
    for (const { endpoint } of this.#nodes) {
      const clientNames = this.#isNamed ? { clientName } : {};
      const options = { ...connect, ...clientNames, signal, allows };
      pipelines.push(stack.use(await Pipeline.open(endpoint, options)));
    }
    return pipelines;
  }

  async #restoreKeys(
    { data, step, number, done, isSameEachTime }: KeysOfStep,
    pipelines: readonly Pipeline[],
  ): Promise<void> {
    const { conflict, databases, lossy = false, prefix, signal } = this.#options;
    const { keysPerMark = defaultKeysPerMark } = this.#options;
    // A pipeline that is new has database 0 selected.
    const nodes = this.#nodes;
    for (const { lane } of nodes) lane.reset();
    const lanes = nodes.map(({ lane }) => lane);
    const commands = new KeyCommands({
      target: targetOfServer((nodes[0] as Node).info),
      lossy,
      lanes,
      ...(nodes[0]?.slots !== undefined && { laneOf: laneBySlot(nodes) }),
      replaces: conflict === undefined || conflict === "overwrite",
      ...(databases && { databases }),
      skipKeys: done,
      ...(step.rules && { choose: this.#choiceOf(step, step.rules) }),
      prefixBytes: prefix?.length ?? 0,
    });
    const pipe = new KeyPipe(commands, this.#choice);
    this.#progress.begin("snapshot");
    const before = this.#keys;
    const skippedBefore = this.#skipped;
    let marked = done;
    await pushAll(data, pipe, async (bytes) => {
      signal?.throwIfAborted();
      await sendAll(lanes, pipelines);
      this.#progress.keys = before + commands.keys;
      this.#progress.add(bytes);
      if (!isSameEachTime || commands.keys < marked + keysPerMark) return;
      for (const pipeline of pipelines) await pipeline.drain();
      marked = commands.keys;
      await this.#mark({ ...beginning, steps: number, keys: marked });
    });
    for (const pipeline of pipelines) await pipeline.drain();
    this.#keys = before + commands.keys;
    if (step.rules) this.#keys -= this.#skipped - skippedBefore;
    for (const [what, count] of commands.dropped) {
      this.#dropped.set(what, (this.#dropped.get(what) ?? 0) + count);
    }
  }

  /** What becomes of a key by its slot, counted. */
  #choiceOf({ side }: Step, rules: SlotRules): (slot: number) => KeyChoice {
    const { conflict } = this.#options;
    return (slot) => {
      const rule = rules[slot];
      if (rule === slotRules.copy) return "none";
      if (rule === slotRules.left) {
        if (side !== "losers") this.#leftovers++;
        return "none";
      }
      const isLoser = rule !== slotRules.own;
      if (side !== undefined && isLoser !== (side === "losers")) return "none";
      if (rule === slotRules.open) this.#unsettled++;
      if (conflict !== undefined) return conflict === "overwrite" ? "replace" : "keep";
      return isLoser ? "keep" : "replace";
    };
  }

  get #choice(): KeyPipeOptions {
    const { selection, prefix } = this.#options;
    return {
      ...(selection && { selection }),
      ...(prefix && { prefix }),
      expiry: this.#expiry,
    };
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
    return typeof ttl === "object" ? ttl.shiftFromMs : this.#work.ms;
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
      const mark = { plan: this.#id, phase: "log", steps: 1, keys: this.#keys, ...place };
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

type KeysOfStep = {
  readonly data: HeldSnapshot;
  readonly step: Step;
  readonly number: number;
  /** So many are there. */
  readonly done: number;
  readonly isSameEachTime: boolean;
};

/** Keys that are there may have been, or may be of the restore that was cut off. */
function cannotTell(nodes: readonly Node[]): Failure {
  const found = "it was cut off, and which keys were there before it cannot be told any more";
  const names = nodes.map(({ marker }) => marker).join(" ");
  return new Failure(
    "TARGET_NOT_EMPTY",
    `Cannot go on with a restore with --conflict fail: ${found}`,
    {
      hint: `Remove its keys and the marker (DEL ${names}) and repeat it; or, without the marker, with --conflict skip or overwrite.`,
    },
  );
}

async function sendAll(lanes: readonly Lane[], pipelines: readonly Pipeline[]): Promise<void> {
  for (const [i, lane] of lanes.entries()) {
    const { parts, commands } = lane.take();
    await (pipelines[i] as Pipeline).send(parts, commands);
  }
}
