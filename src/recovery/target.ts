/**
 * Where to go back to, as people write it.
 *
 *   2026-11-22T10:41:05Z         a time: with Z, an offset as +01:00, or without: in the zone of this
 *   2026-11-22 10:41             process. Parts of a second may follow; the date alone is its start
 *   10:41:05, 10:41              that time of day the last time that it was: today, or else yesterday
 *   today 10:41, yesterday 10:41 of those days
 *   5m ago, 2h30m ago, 1 h ago   days, hours, minutes, seconds, ms, also in words: that long before now
 *   1795370803, 1795370803988    seconds or milliseconds since 1970
 *   now, latest                  the last moment that there is
 *   @ID:OFFSET                   a position; of the id, any beginning that only one id has
 *   set:NAME                     a backup set as it is
 *   before:COMMAND               before the last such command
 *   before:COMMAND@TIME          … before the last one up to a time, in any of the forms above
 *
 * A TIME is a second, and takes all of it, as Redis's own truncation does: 10:41:05 is 10:41:05.999. What is left
 * out is 0, so 10:41 is the second 10:41:00. One with parts of a second, or an age, ends at that millisecond.
 *
 * REJECTED. All of a minute for 10:41: whoever writes the minute of an accident wants to be before it. Dates in local
 * orders (22/11, 11/22): whoever restores may not be misread. Times without a zone as UTC: people read them off
 * their own clock; so the zone that was taken is said (`zone`), for the plan to show, and so is what else
 * was chosen (`notes`): yesterday, or the first of two hours of one name. A time that a clock left out is none.
 */
import { Failure } from "../base/errors.ts";

export type RestoreTarget =
  | {
      readonly kind: "time";
      /** The last millisecond that belongs to it. */
      readonly ms: number;
      /** The zone that a time without one was taken to be in. */
      readonly zone?: string;
      /** For people: what was chosen of several. */
      readonly notes?: readonly string[];
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
      readonly notes?: readonly string[];
    };

type Time = { readonly ms: number; readonly zone?: string; readonly notes?: readonly string[] };

const examples =
  'Write 2026-11-22T10:41:05Z, 10:41:05, "yesterday 10:41", "5m ago", latest, @REPLID:OFFSET, set:NAME or before:FLUSHALL.';

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

/** The same with what a time without a zone was taken for, on the clock of this process. */
export function describeTarget(target: RestoreTarget): string {
  const text = formatTarget(target);
  const ms = target.kind === "time" ? target.ms : undefined;
  const localMs = target.kind === "before" ? target.untilMs : ms;
  if (!("zone" in target) || target.zone === undefined || localMs === undefined) return text;
  return `${text} (${formatLocal(localMs)} in ${target.zone})`;
}

/** "2026-11-22 18:05:00.999 +01:00" */
function formatLocal(ms: number): string {
  const offset = -new Date(ms).getTimezoneOffset();
  const [date, time = ""] = new Date(ms + offset * units.m).toISOString().split("T");
  const two = (count: number) => String(count).padStart(2, "0");
  const size = Math.abs(offset);
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  return `${date} ${time.replace("Z", "")} ${zone}`;
}

/** What was chosen of several, for people. */
export function notesOfTarget(target: RestoreTarget): readonly string[] {
  return "notes" in target ? (target.notes ?? []) : [];
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
  const { ms, ...how } = time;
  return { kind: "before", command, untilMs: ms, ...how };
}

const dayMs = 24 * 60 * 60 * 1000;

function parseTime(text: string, nowMs: number): Time | undefined {
  return (
    parseAge(text, nowMs) ??
    parseCount(text) ??
    parseDate(text) ??
    parseNamedDay(text, nowMs) ??
    parseTimeOfDay(text, nowMs)
  );
}

const units = { d: dayMs, h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
/** The longer ones first: what matches is taken. */
const unitWords: readonly (readonly [words: string, unit: keyof typeof units])[] = [
  ["milliseconds|millisecond|msec|ms", "ms"],
  ["days|day|d", "d"],
  ["hours|hour|hrs|hr|h", "h"],
  ["minutes|minute|mins|min|m", "m"],
  ["seconds|second|secs|sec|s", "s"],
];
const anyUnit = unitWords.map(([words]) => words).join("|");

function parseAge(text: string, nowMs: number): Time | undefined {
  const age = new RegExp(`^((?:\\d{1,12}\\s*(?:${anyUnit})\\s*)+)ago$`, "i").exec(text)?.[1];
  if (age === undefined) return undefined;
  let ms = 0;
  for (const [, count, word = ""] of age.toLowerCase().matchAll(/(\d+)\s*([a-z]+)/g)) {
    const [, unit] = unitWords.find(([words]) => words.split("|").includes(word)) ?? [];
    if (unit === undefined) return undefined;
    ms += Number(count) * units[unit];
  }
  if (ms > nowMs) throw refusal(text, "that is before 1970", examples);
  return { ms: nowMs - ms };
}

/** Seconds since 1970 have ten digits, milliseconds thirteen: from 2001 to 2286. */
function parseCount(text: string): Time | undefined {
  if (/^\d{10}$/.test(text)) return { ms: Number(text) * 1000 + 999 };
  return /^\d{13}$/.test(text) ? { ms: Number(text) } : undefined;
}

const datePattern =
  /^(\d{4})-(\d{2})-(\d{2})(?:(?:T|\s+)(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?)?$/i;

function parseDate(text: string): Time | undefined {
  const found = datePattern.exec(text);
  if (found === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction, zone] = found;
  const date = [Number(year), Number(month), Number(day)] as const;
  if (hour === undefined) return checked(text, [...date, 0, 0, 0], 999, undefined);
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
  if (zone === undefined) return onLocalClock(text, utc.getTime());
  if (zone.toUpperCase() === "Z") return { ms: utc.getTime() };
  const [, sign, hours, minutes] = /([+-])(\d{2}):?(\d{2})/.exec(zone) ?? [];
  if (Number(hours) > 23 || Number(minutes) > 59) throw refusal(text, "no such zone", examples);
  const shift = Number(hours) * units.h + Number(minutes) * units.m;
  return { ms: utc.getTime() - (sign === "-" ? -shift : shift) };
}

/**
 * The time at which the clock of this process shows what one in UTC shows at `shownMs`. Where clocks are put back,
 * there are two; where they are put forward, there is none.
 */
function onLocalClock(text: string, shownMs: number): Time {
  const offsetAt = (ms: number) => new Date(ms).getTimezoneOffset() * units.m;
  // No zone is further than a day from UTC, and none changes twice within two.
  const offsets = new Set([offsetAt(shownMs - dayMs), offsetAt(shownMs + dayMs)]);
  const all = [...offsets].map((offset) => shownMs + offset);
  const times = all.filter((ms) => ms - offsetAt(ms) === shownMs).sort((a, b) => a - b);
  const zone = localZone();
  const [ms, second] = times;
  if (ms === undefined) {
    throw refusal(text, `clocks in ${zone} were put forward over that time`, examples);
  }
  if (second === undefined) return { ms, zone };
  const other = new Date(second).toISOString();
  const note = `clocks in ${zone} showed that time twice: the first one is taken; the other is ${other}`;
  return { ms, zone, notes: [note] };
}

const timePattern = /^(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z)?$/i;

/** That time of the day in which `day` is. */
function parseTimeOn(
  text: string,
  whole: string,
  dayOf: (isUtc: boolean) => Date,
): Time | undefined {
  const found = timePattern.exec(text);
  if (found === null) return undefined;
  const [, hour, minute, second = "0", fraction, zone] = found;
  const time = [Number(hour), Number(minute), Number(second)] as const;
  const day = dayOf(zone !== undefined);
  const date =
    zone === undefined
      ? ([day.getFullYear(), day.getMonth() + 1, day.getDate()] as const)
      : ([day.getUTCFullYear(), day.getUTCMonth() + 1, day.getUTCDate()] as const);
  return checked(whole, [...date, ...time], readFraction(fraction), zone);
}

function parseNamedDay(text: string, nowMs: number): Time | undefined {
  const [, day, time = ""] = /^(today|yesterday)\s+(.*)$/i.exec(text) ?? [];
  if (day === undefined) return undefined;
  const isToday = day.toLowerCase() === "today";
  return parseTimeOn(time, text, (isUtc) => (isToday ? new Date(nowMs) : dayBefore(nowMs, isUtc)));
}

function parseTimeOfDay(text: string, nowMs: number): Time | undefined {
  const today = parseTimeOn(text, text, () => new Date(nowMs));
  // The second that is now belongs to today, although it is not over.
  if (today === undefined || Math.floor(today.ms / 1000) * 1000 <= nowMs) return today;
  const yesterday = parseTimeOn(text, text, (isUtc) => dayBefore(nowMs, isUtc));
  const note = `${text} of today is still to come: yesterday's is taken`;
  return yesterday && { ...yesterday, notes: [note, ...(yesterday.notes ?? [])] };
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
