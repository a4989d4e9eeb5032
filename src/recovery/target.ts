/**
 * Where to go back to, as people write it.
 *
 *   2026-11-22T10:41:05Z         a time: with Z, an offset as +01:00, or without: in the zone of this
 *   2026-11-22 10:41             process. Parts of a second may follow; the date alone is its start
 *   10:41:05, 10:41              that time of day the last time that it was: today, or else yesterday
 *   5m ago, 2h30m ago            days, hours, minutes, seconds, ms: that long before now
 *   now, latest                  the last moment that there is
 *   @ID:OFFSET                   a position; of the id, any beginning that only one id has
 *   set:NAME                     a backup set as it is
 *   before:COMMAND               before the last such command
 *   before:COMMAND@TIME          … before the last one up to a time, in any of the forms above
 *
 * A TIME includes every write stamped at or before it. One that ends with a second, or with a minute,
 * takes all of that second, as Redis's own truncation does: 10:41:05 is 10:41:05.999.
 *
 * REJECTED. Dates in words and in local orders (22/11, 11/22): whoever restores may not be misread.
 * Times without a zone as UTC: people read them off their own clock; so the zone that was taken is
 * said (`zone`), for the plan to show.
 */
import { Failure } from "../base/errors.ts";

export type RestoreTarget =
  | {
      readonly kind: "time";
      /** The last millisecond that belongs to it. */
      readonly ms: number;
      /** The zone that a time without one was taken to be in. */
      readonly zone?: string;
    }
  | { readonly kind: "latest" }
  | { readonly kind: "position"; readonly idPrefix: string; readonly offset: number }
  | { readonly kind: "set"; readonly name: string }
  | {
      readonly kind: "before";
      /** In upper case; "CONFIG SET" and the like have two words. */
      readonly command: string;
      /** The last millisecond in which it may be; undefined: any. */
      readonly untilMs: number | undefined;
      readonly zone?: string;
    };

type Time = { readonly ms: number; readonly zone?: string };

const examples =
  'Write 2026-11-22T10:41:05Z, 10:41:05, "5m ago", latest, @REPLID:OFFSET, set:NAME or before:FLUSHALL.';

/**
 * Reads a target. Times of day and ages count from `nowMs`.
 *
 * @throws Failure USAGE, with what would be right
 */
export function parseTarget(text: string, nowMs: number): RestoreTarget {
  const trimmed = text.trim();
  if (/^(now|latest)$/i.test(trimmed)) return { kind: "latest" };
  if (trimmed.startsWith("@")) return parsePosition(trimmed);
  if (/^set:/i.test(trimmed)) return parseSet(trimmed);
  if (/^before:/i.test(trimmed)) return parseBefore(trimmed, nowMs);
  const time = parseTime(trimmed, nowMs);
  if (time !== undefined) return { kind: "time", ...time };
  throw refusal(text, "it is none of the forms that there are", examples);
}

/** A target for people: times in UTC, to the millisecond. */
export function formatTarget(target: RestoreTarget): string {
  switch (target.kind) {
    case "time":
      return new Date(target.ms).toISOString();
    case "latest":
      return "latest";
    case "position":
      return `@${target.idPrefix}:${target.offset}`;
    case "set":
      return `set:${target.name}`;
    case "before": {
      const { command, untilMs } = target;
      const until = untilMs === undefined ? "" : `@${new Date(untilMs).toISOString()}`;
      return `before:${command}${until}`;
    }
  }
}

function parsePosition(text: string): RestoreTarget {
  const [, idPrefix, offset] = /^@([0-9a-f]{1,40}):(\d{1,16})$/i.exec(text) ?? [];
  if (idPrefix === undefined || !Number.isSafeInteger(Number(offset))) {
    const hint = "Write @REPLID:OFFSET, as INFO replication and `tidemark show` print them.";
    throw refusal(text, "it is no position", hint);
  }
  return { kind: "position", idPrefix: idPrefix.toLowerCase(), offset: Number(offset) };
}

function parseSet(text: string): RestoreTarget {
  const name = text.slice("set:".length);
  if (/^[A-Za-z0-9_.:-]{1,100}$/.test(name)) return { kind: "set", name };
  throw refusal(text, "it names no set", "`tidemark backups` lists the sets.");
}

function parseBefore(text: string, nowMs: number): RestoreTarget {
  const rest = text.slice("before:".length);
  const at = rest.indexOf("@");
  const words = (at < 0 ? rest : rest.slice(0, at)).trim().toUpperCase();
  const command = words.replaceAll(/[\s|]+/g, " ");
  if (!/^[A-Z][A-Z0-9_.-]*( [A-Z0-9_.-]+)?$/.test(command)) {
    const hint = "Write before:FLUSHALL, or before:FLUSHALL@10:41 for the last one up to then.";
    throw refusal(text, `${JSON.stringify(words)} is no name of a command`, hint);
  }
  if (at < 0) return { kind: "before", command, untilMs: undefined };
  const time = parseTime(rest.slice(at + 1).trim(), nowMs);
  if (time === undefined) {
    const hint = 'Behind the "@" write a time: 2026-11-22T10:41:05Z, 10:41:05 or "5m ago".';
    throw refusal(text, `${JSON.stringify(rest.slice(at + 1))} is no time`, hint);
  }
  const { ms, ...zone } = time;
  return { kind: "before", command, untilMs: ms, ...zone };
}

const dayMs = 24 * 60 * 60 * 1000;

function parseTime(text: string, nowMs: number): Time | undefined {
  return parseAge(text, nowMs) ?? parseDate(text) ?? parseTimeOfDay(text, nowMs);
}

const units = { d: dayMs, h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;

function parseAge(text: string, nowMs: number): Time | undefined {
  const age = /^((?:\d{1,12}(?:d|h|ms|m|s)\s*)+)ago$/i.exec(text)?.[1]?.toLowerCase();
  if (age === undefined) return undefined;
  let ms = 0;
  for (const [, count, unit] of age.matchAll(/(\d+)(d|h|ms|m|s)/g)) {
    ms += Number(count) * units[unit as keyof typeof units];
  }
  if (ms > nowMs) throw refusal(text, "that is before 1970", examples);
  return { ms: nowMs - ms };
}

const datePattern =
  /^(\d{4})-(\d{2})-(\d{2})(?:(?:T|\s+)(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?)?$/i;

function parseDate(text: string): Time | undefined {
  const found = datePattern.exec(text);
  if (found === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction, zone] = found;
  const date = [Number(year), Number(month), Number(day)] as const;
  if (hour === undefined) return checked(text, [...date, 0, 0, 0], 0, undefined);
  const time = [Number(hour), Number(minute), Number(second ?? 0)] as const;
  return checked(text, [...date, ...time], readFraction(fraction), zone);
}

/** Of a second, in milliseconds; all of the second where none is given. */
function readFraction(fraction: string | undefined): number {
  return fraction === undefined ? 999 : Number(fraction.padEnd(3, "0").slice(0, 3));
}

type Fields = readonly [number, number, number, number, number, number];

/** Refuses the 31st of a month that has 30 days, and 25 o'clock. */
function checked(text: string, fields: Fields, ms: number, zone: string | undefined): Time {
  const [year, month, day, hour, minute, second] = fields;
  const utc = new Date(Date.UTC(year, month - 1, day, hour, minute, second, ms));
  const isSame =
    utc.getUTCMonth() === month - 1 && utc.getUTCDate() === day && utc.getUTCHours() === hour;
  if (!isSame || minute > 59 || second > 59 || year < 1970) {
    throw refusal(text, "there is no such date or time", examples);
  }
  if (zone === undefined) {
    const local = new Date(year, month - 1, day, hour, minute, second, ms);
    return { ms: local.getTime(), zone: localZone() };
  }
  if (zone.toUpperCase() === "Z") return { ms: utc.getTime() };
  const [, sign, hours, minutes] = /([+-])(\d{2}):?(\d{2})/.exec(zone) ?? [];
  if (Number(hours) > 23 || Number(minutes) > 59) throw refusal(text, "no such zone", examples);
  const shift = Number(hours) * units.h + Number(minutes) * units.m;
  return { ms: utc.getTime() - (sign === "-" ? -shift : shift) };
}

function parseTimeOfDay(text: string, nowMs: number): Time | undefined {
  const found = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z)?$/i.exec(text);
  if (found === null) return undefined;
  const [, hour, minute, second = "0", fraction, zone] = found;
  const time = [Number(hour), Number(minute), Number(second)] as const;
  const ms = readFraction(fraction);
  const on = (day: Date): Time => {
    const date =
      zone === undefined
        ? ([day.getFullYear(), day.getMonth() + 1, day.getDate()] as const)
        : ([day.getUTCFullYear(), day.getUTCMonth() + 1, day.getUTCDate()] as const);
    return checked(text, [...date, ...time], ms, zone);
  };
  const today = on(new Date(nowMs));
  // The second that is now belongs to today, although it is not over.
  return today.ms - ms <= nowMs ? today : on(dayBefore(nowMs, zone !== undefined));
}

/** Noon of the day before: days with a change of the clock do not have 24 hours. */
function dayBefore(nowMs: number, isUtc: boolean): Date {
  const day = new Date(nowMs);
  if (isUtc) day.setUTCDate(day.getUTCDate() - 1);
  else {
    day.setHours(12);
    day.setDate(day.getDate() - 1);
  }
  return day;
}

function localZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

function refusal(text: string, found: string, hint: string): Failure {
  const shown = JSON.stringify(text.slice(0, 100));
  return new Failure("USAGE", `Cannot restore to ${shown}: ${found}`, { hint });
}
