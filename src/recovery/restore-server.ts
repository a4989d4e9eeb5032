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
 *   3. The first error that a server answers ends the restore; the marker stays. It is not gone on with behind the
 *      command that was refused: keys are restored again from the last mark, and of the log see restore-window.ts.
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
import { expiriesFromMs, type LogRange, type Plan } from "./plan-result.ts";
import {
  checkServer,
  databasesOf,
  logMayHold,
  scanLog,
  tryKeys,
  verified,
  verifyPlan,
} from "./restore-check.ts";
import { cannotTell, conflictFailure, findConflict } from "./restore-conflicts.ts";
import { type HeldSnapshot, mustHaveServer, openData } from "./restore-data.ts";
import { librariesLeftOut } from "./restore-folder.ts";
import { type KeyChoice, KeyCommands, Lane } from "./restore-keys.ts";
import type { ArchiveView } from "./restore-locate.ts";
import { LogReplay, release, resumeOf } from "./restore-log.ts";
import { beginning, insideNote, type Mark, readMarks } from "./restore-marker.ts";
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
  whatIsThere,
} from "./restore-nodes.ts";
import { Pipeline } from "./restore-pipeline.ts";
import { ProgressCounter } from "./restore-progress.ts";
import { mustNotMix, type RestoredServer, type ServerOptions } from "./restore-request.ts";
import { openSnapshot, pushAll } from "./restore-snapshot.ts";
import { sweepScratchFolders } from "./scratch-folder.ts";
import { isEverything } from "./selection.ts";

const defaultKeysPerMark = 200_000;
const ownAmongSkipped =
  "keys that were there already are those of others, and those that the run that was cut off had restored";

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
  const { id, rawBytes } = plan;
  const work = { id, ms: expiriesFromMs(plan), rawBytes, steps: [{ plan }] };
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
  /** What is restored lies inside of another restore, which was recorded. */
  #isInside = false;
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
    if (mark?.isInside) this.#isInside = true;
    if (mark === undefined || mark.phase === "keys") await this.#restoreSteps(mark);
    if (this.#replays) {
      if (mark?.phase !== "expiries") await this.#replay(mark);
      await this.#mark({ ...beginning, phase: "expiries", isInside: this.#isInside });
      await this.#release();
    }
    if (this.#isInside) this.#notes.add(insideNote);
    await mustNotHaveEvicted(this.#nodes);
    for (const { control, marker } of this.#nodes) await control.ask("DEL", marker);
    if (mark !== undefined && this.#options.conflict === "skip" && this.#skipped > 0)
      this.#notes.add(ownAmongSkipped);
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
    const isOwn = found.every(({ plan }) => plan === this.#id);
    if (isOwn && !this.#isLost(found[0])) {
      if (found.length === marks.length) return marks[0];
      const end = this.#work.steps.length;
      const last = found.find(({ phase, steps }) => phase === "keys" && steps === end);
      if (last === undefined) this.#begun = new Set(this.#nodes.filter((_, i) => marks[i]));
      return last;
    }
    if (this.#options.overwrite) {
      const which = isOwn ? "this restore, that" : "another restore that";
      this.#notes.add(`${which} was cut off in this server is given up, and begun over`);
      return undefined;
    }
    const message = "Cannot restore: another restore into this server was cut off";
    throw new Failure("TARGET_NOT_EMPTY", message, {
      hint: "Repeat that one to go on with it, or empty the server with --overwrite.",
    });
  }

  /** Whether it cannot be gone on with. @throws Failure where it may not be begun over either */
  #isLost(mark: Mark | undefined): boolean {
    if (mark?.phase !== "log" && mark?.phase !== "failed") return false;
    try {
      resumeOf(mark, this.#nodes[0] as Node);
      return false;
    } catch (error) {
      if (this.#options.overwrite) return true;
      throw error;
    }
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
    const { overwrite = false, conflict, safety, selection = {} } = this.#options;
    const taken: string[] = [];
    for (const node of this.#nodes) {
      const has = this.#begun.has(node)
        ? undefined
        : await whatIsThere(node, isEverything(selection));
      if (has !== undefined) taken.push(`${formatEndpoint(node.endpoint)}: there are ${has}`);
    }
    if (taken.length > 0 && !overwrite && conflict === undefined) {
      throw new Failure("TARGET_NOT_EMPTY", `Cannot restore into ${taken.join(", ")}`, {
        hint: "Empty it with --overwrite, or keep what is there with --conflict skip|overwrite|fail.",
      });
    }
    if (taken.length > 0 && overwrite && conflict === undefined) {
      await this.#check(data);
      await safety?.();
      for (const node of this.#nodes) await emptyNode(node, this.#markOf(beginning));
    } else {
      await this.#askServers(databasesOf(data, this.#options));
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
    await this.#askServers([commands.highestDatabase]);
  }

  /** Whether they have the databases that are needed, and know the commands. @throws Failure */
  async #askServers(databases: readonly number[]): Promise<void> {
    const { log: range } = this.#plan;
    if (range !== undefined && this.#replays) this.#progress.begin("checking");
    const log = range && this.#replays ? await this.#scanLog(range) : undefined;
    const highestDatabase = Math.max(0, ...databases, log?.highestDatabase ?? 0);
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
    const allows = (error: string) => {
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
      if (commands.keys < marked + keysPerMark) return;
      for (const pipeline of pipelines) await pipeline.drain();
      marked = commands.keys;
      // Also where it says nothing new: whoever reads the log of this server sees the restore by its marks.
      await this.#mark({ ...beginning, steps: number, keys: isSameEachTime ? marked : 0 });
    });
    for (const pipeline of pipelines) await pipeline.drain();
    this.#keys = before + commands.keys;
    this.#keys -= this.#skipped - skippedBefore;
    if (commands.marks > 0) this.#isInside = true;
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
    if (this.#replays) return { kind: "hold" };
    const { ttl = "keep" } = this.#options;
    if (ttl === "keep") return { kind: ttl };
    if (ttl === "persist") return { kind: ttl, fromMs: this.#work.ms };
    return { kind: "shift", fromMs: this.#shiftFromMs, toMs: this.#clock.now() };
  }

  get #shiftFromMs(): number {
    const { ttl } = this.#options;
    return typeof ttl === "object" ? ttl.shiftFromMs : this.#work.ms;
  }

  async #replay(mark: Mark | undefined): Promise<void> {
    const { log } = this.#plan;
    if (log === undefined) return;
    const node = this.#nodes[0] as Node;
    const { connect = {}, signal } = this.#options;
    const isResumed = mark?.phase === "log";
    if (isResumed) this.#keys = mark.keys;
    const database = log.start.database ?? null;
    const begin = {
      ...({ ...beginning, phase: "log", steps: 1, keys: this.#keys, database } as const),
      ...{ good: { bytes: 0, database }, isInside: this.#isInside },
    };
    // What is done of the first batch must not be met by the keys once more.
    if (!isResumed) await this.#mark(begin);
    const replay = new LogReplay(this.#view, {
      ...{ log, node, connect, signal, isResumed, id: this.#id, progress: this.#progress },
      ...(this.#isNamed && { clientName }),
      mark: isResumed ? mark : { plan: this.#id, ...begin },
      markInLog: await this.#markInLog(log),
    });
    this.#isInside = await replay.run();
  }

  async #release(): Promise<void> {
    const { ttl = "keep" } = this.#options;
    await release(this.#nodes[0] as Node, {
      ttl: typeof ttl === "object" ? "shift" : ttl,
      fromMs: this.#shiftFromMs,
      ...{ toMs: this.#clock.now(), progress: this.#progress },
    });
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
