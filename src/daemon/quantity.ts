/** Durations and sizes as people write them in a configuration: `10s`, `7d`, `1h30m`, `128MB`. */
const spans: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

const units: Readonly<Record<string, number>> = {
  "": 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

export const durationForm = "a duration such as 10s, 5m, 1h30m or 7d";
/** Of the time of which every moment can be restored. */
export const logWindowBounds = ["1h", "36500d"] as const;
export const sizeForm = "a size such as 128MB or 64MiB";

/** In milliseconds; undefined where it is none. A number needs its unit: 10 of what, nobody knows. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d{1,9}(ms|[smhdw]))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, count, unit = ""] of text.matchAll(/(\d+)(ms|[smhdw])/g)) {
    ms += Number(count) * (spans[unit] as number);
  }
  return Number.isSafeInteger(ms) ? ms : undefined;
}

/** In bytes; undefined where it is none. */
export function parseSize(text: string): number | undefined {
  const [, count, unit = ""] = /^(\d{1,12})\s*([kmg]?i?b)?$/i.exec(text) ?? [];
  const scale = units[unit.toLowerCase()];
  if (count === undefined || scale === undefined) return undefined;
  const bytes = Number(count) * scale;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
