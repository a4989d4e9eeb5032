/**
 * Moves the expiries of a running server back, which were put off while a log was replayed.
 *
 * INVARIANT. It can be repeated: what has been moved already is no longer where held ones are (restore-held.ts).
 *
 * Servers before 7.0 do not tell the time at which a key expires, but what is left; there a
 * millisecond may be lost.
 */

import { Failure } from "../base/errors.ts";
import type { Argument } from "../codec/resp/encode.ts";
import type { Reply } from "../codec/resp/reply.ts";
import { type Connection, errorText } from "../link/connection.ts";
import { type Info, parseInfo } from "../link/instance.ts";
import { itemsOf, textOf } from "../link/reply-values.ts";
import { type Expiring, heldBelowMs, heldTime, lastFieldMs } from "./restore-held.ts";

/** What becomes of an expiry that was so at the moment that is restored: another one, or "gone". */
export type ExpiryRule = (atMs: number) => number | "none" | "gone";

export type ReleaseOptions = {
  readonly rule: ExpiryRule;
  /** Whether those that were too far away to be put off go too. */
  readonly persists: boolean;
  readonly version: number;
  readonly onKeys: (count: number) => void;
};

const scanCount = 1000;

export async function releaseExpiries(
  connection: Connection,
  options: ReleaseOptions,
): Promise<void> {
  const info = parseInfo(textOf(await connection.ask("INFO", "keyspace")) ?? "");
  for (const [name, line] of info) {
    const database = /^db(\d+)$/.exec(name)?.[1];
    if (database === undefined) continue;
    await connection.ask("SELECT", database);
    const count = (field: string) => Number(new RegExp(`\\b${field}=(\\d+)`).exec(line)?.[1] ?? 0);
    if (count("expires") > 0) {
      for await (const keys of scan(connection, [])) await releaseKeys(connection, keys, options);
    }
    if (count("subexpiry") + count("keys_with_volatile_items") === 0) continue;
    for await (const keys of scan(connection, ["TYPE", "hash"])) {
      for (const key of keys) await releaseFields(connection, key, options);
      options.onKeys(keys.length);
    }
  }
  await connection.ask("SELECT", 0);
}

async function* scan(
  connection: Connection,
  more: readonly string[],
): AsyncGenerator<Uint8Array[]> {
  let cursor = "0";
  do {
    const reply = await connection.ask("SCAN", cursor, "COUNT", scanCount, ...more);
    const [next, keys] = itemsOf(reply);
    cursor = textOf(next) ?? "0";
    yield itemsOf(keys).flatMap((key) => (key.type === "bulk" ? [key.bytes] : []));
  } while (cursor !== "0");
}

async function releaseKeys(
  connection: Connection,
  keys: readonly Uint8Array[],
  options: ReleaseOptions,
): Promise<void> {
  const { version, rule, persists, onKeys } = options;
  const isExact = version >= 7;
  const asking = keys.map((key) => connection.ask(isExact ? "PEXPIRETIME" : "PTTL", key));
  const since = isExact ? 0 : await timeOfServer(connection);
  const replies = await Promise.all(asking);
  const changes = keys.flatMap((key, i): Argument[][] => {
    const time = timeOf(replies[i]);
    const at = released(time < 0 ? time : time + since, "keys", { rule, persists });
    if (at === undefined) return [];
    if (at === "none") return [["PERSIST", key]];
    return [at === "gone" ? ["DEL", key] : ["PEXPIREAT", key, Math.max(at, 1)]];
  });
  await Promise.all(changes.map((change) => connection.ask(...change)));
  onKeys(keys.length);
}

/** Fields of one hash. */
async function releaseFields(
  connection: Connection,
  key: Uint8Array,
  { rule, persists }: ReleaseOptions,
): Promise<void> {
  const fields = itemsOf(await connection.ask("HKEYS", key)).flatMap((field) =>
    field.type === "bulk" ? [field.bytes] : [],
  );
  for (let at = 0; at < fields.length; at += scanCount) {
    const part = fields.slice(at, at + scanCount);
    const times = await connection.call("HPEXPIRETIME", key, "FIELDS", part.length, ...part);
    const error = errorText(times);
    if (error !== undefined) throw new Failure("SERVER_FAILED", `Cannot move expiries: ${error}`);
    const groups = new Map<number | "none", Uint8Array[]>();
    for (const [i, reply] of itemsOf(times).entries()) {
      const to = released(timeOf(reply), "fields", { rule, persists });
      if (to === undefined) continue;
      // What is gone is given a time that is past.
      const group = to === "gone" ? 1 : to === "none" ? to : clamp(to);
      groups.set(group, [...(groups.get(group) ?? []), part[i] as Uint8Array]);
    }
    for (const [to, names] of groups) {
      const list = ["FIELDS", names.length, ...names];
      if (to === "none") await connection.ask("HPERSIST", key, ...list);
      else await connection.ask("HPEXPIREAT", key, to, ...list);
    }
  }
}

/** What becomes of an expiry; undefined where it stays. */
function released(
  time: number,
  of: Expiring,
  { rule, persists }: Pick<ReleaseOptions, "rule" | "persists">,
): ReturnType<ExpiryRule> | undefined {
  const atMs = heldTime(time, of);
  if (atMs !== undefined) return rule(atMs);
  return persists && time >= heldBelowMs ? "none" : undefined;
}

function clamp(fieldMs: number): number {
  return Math.min(Math.max(fieldMs, 1), lastFieldMs);
}

async function timeOfServer(connection: Connection): Promise<number> {
  const [seconds, micros] = itemsOf(await connection.ask("TIME")).map((item) =>
    Number(textOf(item)),
  );
  return (seconds as number) * 1000 + Math.floor((micros as number) / 1000);
}

function timeOf(reply: Reply | undefined): number {
  return reply?.type === "integer" ? Number(reply.value) : -1;
}

export function versionOf(info: Info): number {
  const text = info.get("valkey_version") ?? info.get("redis_version") ?? "";
  const [, major = "0", minor = "0"] = /^(\d+)\.(\d+)/.exec(text) ?? [];
  return Number(major) + Number(minor) / 100;
}
