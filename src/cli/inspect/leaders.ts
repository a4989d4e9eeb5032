/** The few items with the greatest numbers, of as many as come. */
export class Leaders<Item> {
  readonly #max: number;
  readonly #items: { readonly rank: number; readonly item: Item }[] = [];
  /** A number that is not greater than this does not get in. */
  threshold: number;

  constructor(max: number) {
    this.#max = max;
    this.threshold = max === 0 ? Number.POSITIVE_INFINITY : -1;
  }

  /** Of items with the same number, the first ones stay. */
  add(rank: number, item: Item): void {
    if (rank <= this.threshold) return;
    const items = this.#items;
    const place = items.findIndex((other) => other.rank < rank);
    items.splice(place < 0 ? items.length : place, 0, { rank, item });
    if (items.length > this.#max) items.pop();
    if (items.length === this.#max) this.threshold = items.at(-1)?.rank ?? -1;
  }

  /** Greatest first. */
  list(): Item[] {
    return this.#items.map(({ item }) => item);
  }
}
