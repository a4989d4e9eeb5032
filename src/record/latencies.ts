/** Of the values of one bucket, the largest is so much larger than the smallest. */
const step = 1.05;
const leastMs = 0.001;
/** Up to some ten minutes. */
const buckets = 420;

/** How long things took, in a few hundred counters, however many they were. */
export class Latencies {
  readonly #counts = new Uint32Array(buckets);
  #total = 0;

  add(ms: number): void {
    const bucket = Math.ceil(Math.log(Math.max(ms, leastMs) / leastMs) / Math.log(step));
    const at = Math.min(bucket, buckets - 1);
    this.#counts[at] = (this.#counts[at] as number) + 1;
    this.#total++;
  }

  /** What this share of them took at most, to 5 %; null where there are none. */
  percentile(share: number): number | null {
    if (this.#total === 0) return null;
    const wanted = Math.ceil(this.#total * share);
    let seen = 0;
    const bucket = this.#counts.findIndex((count) => {
      seen += count;
      return seen >= wanted;
    });
    return Number((leastMs * step ** bucket).toPrecision(3));
  }
}
