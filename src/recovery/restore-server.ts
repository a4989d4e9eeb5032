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
 *      only after what shall be restored was read to its end (restore-check.ts), and `safety()` has returned.
 *   2. A server with the marker of another restore is not gone on with. Where it is emptied, that is said.
 *   3. The first error that a server answers ends the restore; the marker stays.
 *   4. Keys are passed over only where it is certain that they were restored: `keys` of a marker counts those
 *      of a file that is the same each time.
 *   5. No key of the data is lost to the marker: one that is called so is refused.
 *   6. Where a server has evicted a key meanwhile, what is there is not whole, and stays marked.
 *
 * REJECTED. To make the server our replica, which would be as exact and faster: it has to reach us,
 * managed ones may not, and clusters cannot. To replay a log into a cluster: commands with keys
 * of several slots would have to be taken apart, which most cannot be.
 */
import type { Clock } from "../base/clock.ts";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import { type Address, formatEndpoint } from "../link/address.ts";
import type { ClusterPlan } from "./cluster-plan.ts";
import { type SlotRules, slotRules } from "./cluster-rules.ts";
import { type ExpiryPolicy, KeyPipe, type KeyPipeOptions } from "./key-pipe.ts";
import { readLog } from "./log-reader.ts";
import type { LogRange, Plan } from "./plan-result.ts";
import {
  checkServer,
  logMayHold,
  scanLog,
  tryKeys,
  verified,
  verifyPlan,
} from "./restore-check.ts";
import { cannotTell, conflictFailure, findConflict } from "./restore-conflicts.ts";
import { type HeldSnapshot, mustHaveServer, openData } from "./restore-data.ts";
import { type ExpiryRule, releaseExpiries, versionOf } from "./restore-expiries.ts";
import { librariesLeftOut } from "./restore-folder.ts";
import { type KeyChoice, KeyCommands, Lane } from "./restore-keys.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { beginning, type Mark, readMarks } from "./restore-marker.ts";
import {
  checkNode,
  clientName,
  emptyNode,
  laneBySlot,
  mustNotHaveEvicted,
  type Node,
  openNodes,
  targetOfServer,
  waitForOthers,
} from "./restore-nodes.ts";
import { Pipeline } from "./restore-pipeline.ts";
import { ProgressCounter } from "./restore-progress.ts";
import { type Batch, heldMs, LogCommands, type ReplayPosition } from "./restore-replay.ts";
import { mustNotMix, type RestoredServer, type ServerOptions } from "./restore-request.ts";
import { openSnapshot, pushAll } from "./restore-snapshot.ts";
import { sweepScratchFolders } from "./scratch-folder.ts";
import { isEverything } from "./selection.ts";

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
  mustNotMix(options);
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
  mustNotMix(options);
  mustHaveServer(
    shards.map(({ plan }) => plan),
    server,
  );
  const of = (side?: "winners" | "losers") =>
    shards.map(({ plan, rules }): Step => ({ plan, rules, ...(side && { side }) }));
  // Where all that is there is replaced, or none of it, it is the order that decides.
  const steps =
    conflict === undefined || conflict === "fail"
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
  #isFirstStep = true;
  #mayHoldMark: boolean | undefined;
  readonly #skippedLibraries = new Set<string>();
  readonly #notes = new Set<string>();
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
    await mustNotHaveEvicted(this.#nodes);
    for (const { control, marker } of this.#nodes) await control.ask("DEL", marker);
    this.#progress.begin("done");
    return {
      servers: this.#nodes.map(({ endpoint }) => formatEndpoint(endpoint)),
      keys: this.#keys,
      skipped: this.#options.conflict === "skip" ? this.#skipped : 0,
      skippedLibraries: this.#skippedLibraries.size,
      isReplayed: this.#replays,
      leftovers: this.#leftovers,
      unsettled: this.#unsettled,
      commands: this.#progress.commands,
      dropped: this.#dropped,
      isResumed: mark !== undefined,
      notes: [...this.#notes],
    };
  }

  async #restoreSteps(mark: Mark | undefined): Promise<void> {
    if (mark !== undefined && this.#options.conflict === "fail") throw cannotTell(this.#nodes);
    let hasRoom = mark !== undefined;
    for (const [number, step] of this.#work.steps.entries()) {
      if (number < (mark?.steps ?? 0)) continue;
      // What is needed is looked for before anything is changed.
      await using data = await this.#open(step);
      if (this.#options.conflict === "fail" && number === 0) await this.#mustMeetNone(data);
      if (!hasRoom) await this.#makeRoom(data);
      hasRoom = true;
      this.#isFirstStep = number === 0;
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
    if (this.#options.overwrite) {
      this.#notes.add(
        "another restore that was cut off in this server is given up, and begun over",
      );
      return undefined;
    }
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
  async #makeRoom(data: HeldSnapshot): Promise<void> {
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
      await this.#check(data);
      await safety?.();
      for (const node of this.#nodes) await emptyNode(node, this.#markOf(beginning));
    } else if (this.#replays && this.#plan.log && (await this.#markInLog(this.#plan.log))) {
      this.#progress.begin("checking");
      await this.#scanLog(this.#plan.log);
    }
    await this.#mark(beginning);
  }

  /** Whether all of it can be restored, found out while the servers still have what they had. */
  async #check(data: HeldSnapshot): Promise<void> {
    const { signal } = this.#options;
    const progress = this.#progress;
    const [first, ...others] = this.#work.steps as [Step, ...Step[]];
    const { plan } = first;
    progress.begin("checking");
    const lanes = this.#nodes.map(() => new Lane());
    const commands = this.#commandsFor(lanes, { step: first });
    const isStored = this.#replays || plan.log === undefined;
    const bytes = () => verified(this.#view, plan);
    const snapshot = isStored ? { ...data, bytes } : data;
    await tryKeys(snapshot, commands, { pipe: this.#choice, lanes, progress, signal });
    for (const { plan: other } of others) await verifyPlan(this.#view, other, { progress, signal });
    const range = this.#replays ? plan.log : undefined;
    const log = range && (await this.#scanLog(range));
    const highestDatabase = Math.max(commands.highestDatabase, log?.highestDatabase ?? 0);
    const needs = { commands: log?.commands ?? [], highestDatabase };
    for (const { control } of this.#nodes) await checkServer(control, needs);
  }

  async #scanLog(range: LogRange) {
    const { signal } = this.#options;
    return await scanLog(this.#view, range, {
      ...{ progress: this.#progress, signal },
      marker: await this.#markInLog(range),
    });
  }

  /** The marker's key, where the log may have to do with it. */
  async #markInLog(range: LogRange): Promise<string | undefined> {
    const { marker } = this.#nodes[0] as Node;
    this.#mayHoldMark ??= await logMayHold(this.#view, range, marker);
    return this.#mayHoldMark ? marker : undefined;
  }

  /**
   * Before the first of several shards is restored: its keys are not to be met when the others are.
   *
   * @throws Failure TARGET_NOT_EMPTY naming a key that is there
   */
  async #mustMeetNone(data: HeldSnapshot): Promise<void> {
    const [first, ...others] = this.#work.steps as [Step, ...Step[]];
    await this.#mustNotMeet(data, first);
    for (const other of others) {
      await using rest = await this.#open(other);
      await this.#mustNotMeet(rest, other);
    }
  }

  async #mustNotMeet(data: HeldSnapshot, { rules }: Step): Promise<void> {
    const { databases, signal } = this.#options;
    const isWanted = (slot: number) => {
      const rule = rules?.[slot];
      return rule !== slotRules.copy && rule !== slotRules.left;
    };
    const found = await findConflict(data, this.#nodes, {
      ...{ databases, signal, isWanted },
      pipe: this.#choice,
    });
    if (found !== undefined) throw conflictFailure(found);
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
      if (conflict === "skip" && /^ERR (Library|Function) .*already exists/.test(error)) {
        // Behind the first step, it may be one that was restored.
        if (this.#isFirstStep) this.#skippedLibraries.add(error);
        return true;
      }
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
    const { signal } = this.#options;
    const { keysPerMark = defaultKeysPerMark } = this.#options;
    // A pipeline that is new has database 0 selected.
    for (const { lane } of this.#nodes) lane.reset();
    const lanes = this.#nodes.map(({ lane }) => lane);
    const choose = step.rules && this.#choiceOf(step, step.rules);
    const commands = this.#commandsFor(lanes, { step, choose, skipKeys: done });
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
    this.#keys -= this.#skipped - skippedBefore;
    this.#tellOfLibraries(pipe.counts.libraries);
    for (const [what, count] of commands.dropped) {
      this.#dropped.set(what, (this.#dropped.get(what) ?? 0) + count);
    }
  }

  #tellOfLibraries(libraries: number): void {
    if (libraries === 0) return;
    this.#notes.add(librariesLeftOut);
    // All shards have the same.
    this.#dropped.set("function", Math.max(libraries, this.#dropped.get("function") ?? 0));
  }

  #commandsFor(
    lanes: readonly Lane[],
    {
      step,
      choose,
      skipKeys = 0,
    }: {
      readonly step: Step;
      readonly choose?: ((slot: number) => KeyChoice) | undefined;
      readonly skipKeys?: number;
    },
  ): KeyCommands {
    const { conflict, databases, lossy = false, prefix } = this.#options;
    const nodes = this.#nodes.map((node, i) => ({ ...node, lane: lanes[i] as Lane }));
    return new KeyCommands({
      target: targetOfServer((this.#nodes[0] as Node).info),
      ...{ lossy, lanes, skipKeys },
      markers: nodes.map(({ marker }) => marker),
      ...(nodes[0]?.slots !== undefined && { laneOf: laneBySlot(nodes) }),
      replaces: conflict === undefined || conflict === "overwrite",
      ...(databases && { databases }),
      ...(step.rules && choose && { choose }),
      prefixBytes: prefix?.length ?? 0,
    });
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
      if (conflict === "overwrite" || conflict === "skip") {
        return conflict === "overwrite" ? "replace" : "keep";
      }
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
    const markInLog = await this.#markInLog(log);
    const from =
      mark?.phase === "log"
        ? { bytes: mark.bytes, database: mark.database ?? undefined }
        : { bytes: 0, database: log.start.database };
    const describe = (at: ReplayPosition) => {
      const place = { bytes: at.bytes, database: at.database ?? null };
      const mark = { plan: this.#id, phase: "log", steps: 1, keys: this.#keys, ...place };
      return [marker, JSON.stringify(mark)] as const;
    };
    const isOld = versionOf(info) < 6.02;
    const commands = new LogCommands(from, describe, { isOld, mark: markInLog });
    if (mark?.phase === "log") this.#keys = mark.keys;
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

async function sendAll(lanes: readonly Lane[], pipelines: readonly Pipeline[]): Promise<void> {
  for (const [i, lane] of lanes.entries()) {
    const { parts, commands } = lane.take();
    await (pipelines[i] as Pipeline).send(parts, commands);
  }
}
