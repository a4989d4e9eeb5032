/**
 * What a source is written with: random commands of every type, and among them, in random order, every
 * write command that it knows in every way that it allows.
 *
 * Keys that expire soon, or whose fields do, have names of their own (`short:…`, `fields:…`): when they
 * are gone is up to each server, so `settle()` deletes them before anybody compares.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Argument, type Client, ReplyError } from "../support/client.ts";
import { type Example, examplesFor } from "./every-command.ts";
import { caller, readFlags, run, type Stage, type Way, waysOf } from "./run-example.ts";
import type { Source } from "./source.ts";

export type Random = () => number;

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const databases = 16;
const shortKeys = 10;
const batch = 60;
const longestPauseMs = 30;
/** Examples that leave nothing of the data: once is enough. */
const wiping = /FLUSH/;

type Planned = { readonly example: Example; readonly way: Way };

export class Workload {
  readonly #source: Source;
  readonly #random: Random;
  readonly #peerPort: number;
  #plan: Planned[] = [];
  #runs = 0;
  #waiter: Client | undefined;
  #waiterOf: Client | undefined;

  private constructor(source: Source, random: Random, peerPort: number) {
    this.#source = source;
    this.#random = random;
    this.#peerPort = peerPort;
  }

  static async plan(source: Source, random: Random, peerPort: number): Promise<Workload> {
    const workload = new Workload(source, random, peerPort);
    const flags = await readFlags(source.client);
    for (const example of examplesFor(source.id)) {
      const ways = waysOf(example, flags);
      const chosen = wiping.test(example.text) ? [pick(random, ways)] : ways;
      workload.#plan.push(...chosen.map((way) => ({ example, way })));
    }
    workload.#plan = shuffled(random, workload.#plan);
    return workload;
  }

  /** Examples that have been run. */
  get runs(): number {
    return this.#runs;
  }

  get left(): number {
    return this.#plan.length;
  }

  /**
   * Writes `count` random commands, and that many of the examples that are left, with pauses between
   * them so that what happens may come before, in or after any. The source may end meanwhile: then so
   * does this.
   *
   * @throws ReplyError where an example is refused
   */
  async write(count: number, examples: number): Promise<void> {
    try {
      for (let done = 0; done < count; done += batch) {
        await writeRandomly(this.#source.client, Math.min(batch, count - done), this.#random);
        const share = Math.ceil((examples * batch) / count);
        for (let i = 0; i < share && this.#plan.length > 0; i++) await this.#runNext();
        await sleep(this.#random() * longestPauseMs);
      }
    } catch (error) {
      if (!isLost(error)) throw error;
    }
  }

  async #runNext(): Promise<void> {
    const planned = this.#plan.pop() as Planned;
    const prefix = `e${this.#runs++}_`;
    const database = Math.floor(this.#random() * 4);
    try {
      const stage = { ...(await this.#stage()), database, prefix };
      if (planned.way === "function") {
        await stage.client.call("FUNCTION", "LOAD", "REPLACE", caller);
      }
      await run(planned.example, planned.way, stage);
    } catch (error) {
      this.#plan.unshift(planned);
      if (!(error instanceof ReplyError)) throw error;
      throw new ReplyError(`${planned.example.text} (${planned.way}): ${error.message}`);
    }
  }

  async #stage(): Promise<Omit<Stage, "database" | "prefix">> {
    const { client } = this.#source;
    if (this.#waiterOf !== client) this.#waiter = await this.#source.server.connect();
    this.#waiterOf = client;
    return { client, waiter: this.#waiter as Client, peerPort: this.#peerPort };
  }

  /** Runs what is left of the plan, and makes the data stand still. */
  async settle(): Promise<void> {
    while (this.#plan.length > 0) {
      await writeRandomly(this.#source.client, 10, this.#random);
      await this.#runNext();
    }
    const names = Array.from({ length: shortKeys }, (_, i) => [`short:${i}`, `fields:${i}`]).flat();
    for (let database = 0; database < databases; database++) {
      await this.#source.client.call("SELECT", database);
      await this.#source.client.call("DEL", ...names);
    }
  }

  /** One value of 100 KB to 20 MB; it stays in half of the cases. */
  async writeBig(): Promise<void> {
    const size = Math.floor(100_000 * 200 ** this.#random());
    const value = Buffer.alloc(size, `${this.#random()}\r\n*1\r\n`);
    const isKept = this.#random() < 0.5;
    try {
      const { client } = this.#source;
      await client.call("SET", "big", value);
      await client.call("RPUSH", "big:list", value.subarray(0, size / 4), "x");
      if (!isKept) await client.call("DEL", "big");
    } catch (error) {
      if (!isLost(error)) throw error;
    }
  }

  /** So many bytes that no small backlog has them all. */
  async writeMuch(bytes: number): Promise<void> {
    const value = "x".repeat(10_000);
    const commands = Array.from({ length: bytes / value.length }, () => ["SET", "much", value]);
    await this.#source.client.pipeline(commands);
  }
}

/** Whether the source has gone, as it does when it is killed. */
function isLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code = "" } = error as NodeJS.ErrnoException;
  return (
    /closed the connection/.test(error.message) ||
    /^(ECONNRESET|ECONNREFUSED|EPIPE|ENOENT)$/.test(code)
  );
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** As `writeRandomly()`, but for keys that expire soon: what there is at a moment stays so. */
export async function writeLasting(client: Client, count: number, random: Random): Promise<void> {
  await writeRandomly(client, count, random, (args) => !args.some((arg) => isShortLived(arg)));
}

/** As `writeLasting()`, and what a newer server logs of it is known to Redis 6.0. */
export async function writeForOld(client: Client, count: number, random: Random): Promise<void> {
  const isOld = (args: readonly Argument[]) =>
    args[0] !== "XREADGROUP" && !args.some((arg) => isShortLived(arg));
  await writeRandomly(client, count, random, isOld);
}

function isShortLived(arg: Argument): boolean {
  return typeof arg === "string" && /^(short|fields):/.test(arg);
}

/** Writes random commands of every type, in several databases, alone and in transactions. */
export async function writeRandomly(
  client: Client,
  count: number,
  random: Random,
  isWanted: (args: readonly Argument[]) => boolean = () => true,
): Promise<void> {
  const commands: Argument[][] = [];
  while (commands.length < count) {
    const isTransaction = random() < 0.05;
    if (isTransaction) commands.push(["MULTI"]);
    const length = isTransaction ? 1 + Math.floor(random() * 6) : 1;
    for (let i = 0; i < length; i++) commands.push(oneCommand(random));
    if (isTransaction) commands.push(["EXEC"]);
  }
  // Some are refused, for a key of another type or a server too old: that is part of the game.
  await Promise.all(commands.filter(isWanted).map((args) => client.ask(...args)));
}

const farSeconds = 1_000_000;

function oneCommand(random: Random): Argument[] {
  const number = (below: number) => String(Math.floor(random() * below));
  const key = (type: string) => `${type}:${number(40)}`;
  const shortKey = (type: string) => `${type}:${number(shortKeys)}`;
  const text = () =>
    "\r\n*1#TS:\0é".charAt(Math.floor(random() * 9)) +
    "x".repeat(random() < 0.05 ? 3000 : Number(number(40))) +
    number(1e6);
  const soon = () => String(1 + Number(number(200)));
  return pick(random, [
    () => ["SET", key("s"), text()],
    () => ["SET", key("s"), text(), "EX", String(farSeconds + Number(number(1000)))],
    () => ["SETEX", key("s"), String(farSeconds), text()],
    () => ["EXPIRE", key(pick(random, ["s", "l", "h", "z"])), String(farSeconds)],
    () => ["PERSIST", key("s")],
    () => ["APPEND", key("s"), text()],
    () => ["INCRBY", key("n"), number(100)],
    () => ["INCRBYFLOAT", key("n"), "0.5"],
    () => ["SETRANGE", key("s"), number(50), text()],
    () => ["SETBIT", key("b"), number(1000), "1"],
    () => ["PFADD", key("p"), text(), text()],
    () => ["RPUSH", key("l"), text(), text()],
    () => ["LPUSH", key("l"), text()],
    () => ["LPOP", key("l")],
    () => ["LTRIM", key("l"), "0", "30"],
    () => ["RPOPLPUSH", key("l"), key("l")],
    () => ["SADD", key("S"), number(30), text()],
    () => ["SPOP", key("S")],
    () => ["SUNIONSTORE", key("S"), key("S"), key("S")],
    () => ["HSET", key("h"), number(20), text()],
    () => ["HINCRBY", key("hn"), number(5), "3"],
    () => ["HDEL", key("h"), number(20)],
    () => ["ZADD", key("z"), number(1000), number(50)],
    () => ["ZINCRBY", key("z"), "1.25", number(50)],
    () => ["ZPOPMIN", key("z")],
    () => ["GEOADD", key("g"), "13.4", "52.5", number(20)],
    () => ["XADD", key("x"), "MAXLEN", "~", "50", "*", "f", text()],
    () => ["XGROUP", "CREATE", key("x"), "group", "0", "MKSTREAM"],
    () => ["XREADGROUP", "GROUP", "group", "c", "COUNT", "2", "STREAMS", key("x"), ">"],
    () => ["RENAME", key("s"), key("s")],
    () => ["DEL", key(pick(random, ["s", "l", "S", "h", "z", "x"]))],
    () => [
      "EVAL",
      "redis.call('SET', KEYS[1], ARGV[1]); redis.call('INCR', KEYS[2])",
      "2",
      key("s"),
      key("n"),
      text(),
    ],
    () => ["SELECT", number(4)],
    () => ["PUBLISH", "channel", text()],
    () => (random() < 0.02 ? ["FLUSHDB"] : ["PING"]),
    () => ["SET", shortKey("short"), text(), "PX", soon()],
    () => ["PSETEX", shortKey("short"), soon(), text()],
    () => ["PEXPIRE", shortKey("short"), soon()],
    () => ["LPUSH", shortKey("short"), text()],
    () => ["GET", shortKey("short")],
    () => ["HSET", shortKey("fields"), number(5), text()],
    () => ["HPEXPIRE", shortKey("fields"), soon(), "FIELDS", "1", number(5)],
    () => ["HSETEX", shortKey("fields"), "PX", soon(), "FIELDS", "1", number(5), text()],
  ])();
}
