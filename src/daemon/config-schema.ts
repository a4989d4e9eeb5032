/**
 * What may stand in `tidemark.yaml`: one schema, with the defaults and what is said of a fault.
 *
 * WHY ITS OWN WORDS. A schema library says what type it expected; whoever wrote `retention: 30` wants to know
 * that the setting is called otherwise, and that a duration has a unit. Each message goes on behind the
 * setting's name: "db1.fsync must be one of …".
 */
import { z } from "zod";
import { durationForm, logWindowBounds, parseDuration, parseSize, sizeForm } from "./quantity.ts";
import { type Weekday, weekdays } from "./schedule.ts";
import { nearest } from "./yaml-file.ts";

/** An object that refuses what it does not know, and says what was meant perhaps. */
function strict<Shape extends z.ZodRawShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== "unrecognized_keys") return `must be settings (${known.join(", ")})`;
      const meant = nearest(String(issue["keys"]?.[0]), known);
      const words =
        meant === undefined ? `known are ${known.join(", ")}` : `did you mean ${meant}?`;
      return `is not known: ${words}`;
    },
  });
}

function text(form: string) {
  const schema = z.string({ error: `must be ${form}` }).min(1, `must be ${form}`);
  return schema.refine((value) => !value.includes("${"), {
    error: "has ${…}, which is not replaced: secrets are given as {env: NAME}",
  });
}

function quantity(form: string, parse: (text: string) => number | undefined) {
  return (least: string, most: string) => {
    const bounds = `must be ${form}, from ${least} to ${most}`;
    return z.union([z.string(), z.number()], { error: bounds }).transform((value, context) => {
      const amount = typeof value === "string" ? parse(value) : undefined;
      const [low = 0, high = 0] = [parse(least), parse(most)];
      if (amount !== undefined && amount >= low && amount <= high) return amount;
      context.addIssue({ code: "custom", message: `is ${JSON.stringify(value)}: it ${bounds}` });
      return z.NEVER;
    });
  };
}

const duration = quantity(durationForm, parseDuration);
const size = quantity(sizeForm, parseSize);

function oneOf<const Words extends readonly [string, ...string[]]>(...words: Words) {
  return z.enum(words, { error: `must be one of ${words.join(", ")}` });
}

function whole(least: number, most: number) {
  const error = `must be a whole number from ${least} to ${most}`;
  return z.int({ error }).min(least, error).max(most, error);
}

const yesOrNo = z.boolean({ error: "must be true or false" });

const secretForm =
  "must be one of {file: PATH}, {command: LINE}, {env: NAME}: no secret stands here";
const secret = z.union(
  [
    z.strictObject({ file: text("a path") }),
    z.strictObject({ command: text("a command") }),
    z.strictObject({ env: text("the name of a variable") }),
  ],
  { error: secretForm },
);

const keyId = text("a name of the key").regex(/^[!-~]{1,64}$/, {
  error: "must be 1 to 64 printable ASCII characters without spaces",
});

const repository = strict({
  address: text("a folder or s3://BUCKET/PREFIX"),
  encryption: strict({
    id: keyId,
    key: secret,
    older: z
      .array(strict({ id: keyId, key: secret }), { error: "must be a list of {id, key}" })
      .default([]),
  }).optional(),
  level: whole(1, 19).optional(),
});

const daysForm = `must be daily, or a list of ${weekdays.join(", ")}`;
const days = z
  .union([z.literal("daily"), z.array(z.string()).min(1)], { error: daysForm })
  .transform((value, context): readonly Weekday[] => {
    if (value === "daily") return weekdays;
    const found = weekdays.filter((day) =>
      value.some((each) => each.length >= 3 && day.startsWith(each.toLowerCase())),
    );
    if (found.length === value.length) return found;
    context.addIssue({ code: "custom", message: daysForm });
    return z.NEVER;
  });

const time = z
  .string({ error: 'must be a time of day such as "03:15"' })
  .transform((value, context) => {
    const [, hour, minute] = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(value) ?? [];
    if (hour !== undefined) return { hour: Number(hour), minute: Number(minute) };
    context.addIssue({ code: "custom", message: 'must be a time of day such as "03:15"' });
    return z.NEVER;
  });

const timeZone = text("a time zone such as Europe/Prague or UTC").refine(isTimeZone, {
  error: "must be a time zone as the IANA names it, such as Europe/Prague or UTC",
});

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).format(0) !== "";
  } catch {
    return false;
  }
}

function machineZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

const keep = whole(0, 10_000).optional();

const backup = strict({
  enabled: yesOrNo.default(true),
  days: days.default(weekdays),
  time: time.default({ hour: 3, minute: 0 }),
  time_zone: timeZone.default(machineZone),
  jitter: duration("0s", "12h").default(30 * 60_000),
  retention_days: z
    .number({ error: "must be a number of days, 7 to 730" })
    .positive("must be more than 0")
    .default(7),
  allow_any_retention: yesOrNo.default(false),
  keep_last: keep,
  keep_daily: keep,
  keep_weekly: keep,
  keep_monthly: keep,
});

const instance = strict({
  source: text("an address such as redis://db1:6379"),
  user: text("a name of a user").optional(),
  password: secret.optional(),
  tls: strict({
    ca: text("a path").optional(),
    cert: text("a path").optional(),
    key: text("a path").optional(),
    server_name: text("a host name").optional(),
  }).optional(),
  follow: oneOf("replica", "master").default("replica"),
  fsync: oneOf("always", "everysec", "no").default("everysec"),
  spool: text("a path").optional(),
  segment_size: size("1MB", "16GB").default(128 * 2 ** 20),
  segment_age: duration("10s", "30d").default(60 * 60_000),
  repository: text("the name of a repository").optional(),
  archive_interval: duration("1s", "1d").default(10_000),
  backup: backup.prefault({}),
  log_window: duration(...logWindowBounds).default(7 * 86_400_000),
});

/** Names with settings behind them. */
function named<Value extends z.ZodType>(what: string, value: Value) {
  return z.record(z.string(), value, { error: `must be ${what} by name` });
}

export const configSchema = strict({
  repositories: named("repositories", repository),
  instances: named("instances", instance).default({}),
});

export type RepositoryFields = z.infer<typeof repository>;
export type InstanceFields = z.infer<typeof instance>;
export type SecretFields = z.infer<typeof secret>;
