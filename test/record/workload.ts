import type { Client } from "../support/client.ts";

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

/** Writes random commands of every type, in several databases, alone and in transactions. */
export async function writeRandomly(client: Client, count: number, random: Random): Promise<void> {
  const commands: string[][] = [];
  while (commands.length < count) {
    const isTransaction = random() < 0.05;
    if (isTransaction) commands.push(["MULTI"]);
    const length = isTransaction ? 1 + Math.floor(random() * 6) : 1;
    for (let i = 0; i < length; i++) commands.push(oneCommand(random));
    if (isTransaction) commands.push(["EXEC"]);
  }
  // Some are refused, for a key of another type: that is part of the game.
  await Promise.all(commands.map((args) => client.ask(...args).catch(() => {})));
}

const farSeconds = 1_000_000;

function oneCommand(random: Random): string[] {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const number = (below: number) => String(Math.floor(random() * below));
  const key = (type: string) => `${type}:${number(40)}`;
  const text = () =>
    "\r\n*1#TS:\0é".charAt(Math.floor(random() * 9)) +
    "x".repeat(random() < 0.05 ? 3000 : Number(number(40))) +
    number(1e6);
  return pick([
    () => ["SET", key("s"), text()],
    () => ["SET", key("s"), text(), "EX", String(farSeconds + Number(number(1000)))],
    () => ["SETEX", key("s"), String(farSeconds), text()],
    () => ["EXPIRE", key(pick(["s", "l", "h", "z"])), String(farSeconds + Number(number(9)))],
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
    () => ["DEL", key(pick(["s", "l", "S", "h", "z", "x"]))],
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
  ])();
}
