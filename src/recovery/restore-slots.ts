/** The hash slots of a cluster: CRC-16 (XMODEM) of a key, or of what stands in its first braces. */
const slots = 16384;
const OPEN = 123;
const CLOSE = 125;

const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  return crc & 0xffff;
});

export function slotOf(bytes: Uint8Array, start = 0, end = bytes.length): number {
  let [from, to] = [start, end];
  let open = start;
  while (open < end && bytes[open] !== OPEN) open++;
  let close = open + 1;
  while (close < end && bytes[close] !== CLOSE) close++;
  // Braces with nothing between them, or without an end, count as part of the key.
  if (close < end && close > open + 1) [from, to] = [open + 1, close];
  let crc = 0;
  for (let i = from; i < to; i++) {
    crc = ((crc << 8) & 0xffff) ^ (table[((crc >> 8) ^ (bytes[i] as number)) & 0xff] as number);
  }
  return crc & (slots - 1);
}

/** A key that starts so and is in one of some ranges of slots. */
export function keyInSlots(
  prefix: string,
  ranges: readonly (readonly [first: number, last: number])[],
): string {
  for (let i = 0; ; i++) {
    const key = `${prefix}{${i}}`;
    const slot = slotOf(Buffer.from(key));
    if (ranges.some(([first, last]) => slot >= first && slot <= last)) return key;
  }
}
