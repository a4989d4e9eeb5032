/** Where the time comes from: passed in, so that tests can say what time it is. */
export interface Clock {
  /** Unix milliseconds. */
  now(): number;
}

export const systemClock: Clock = {
  // oxlint-disable-next-line no-restricted-properties -- why: the one place that asks the machine
  now: () => Date.now(),
};

/** A time for people and for names: UTC, to the millisecond. */
export function iso(ms: number): string {
  return new Date(ms).toISOString();
}
