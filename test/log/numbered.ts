/** A stream in which every byte follows from its offset. */
export const replicationId = "0123456789abcdef0123456789abcdef01234567";
export const baseOffset = 1000;

/** The records that begin at an offset: a few, of sizes that vary. */
export function batchAt(offset: number): Uint8Array {
  const parts: string[] = [];
  let at = offset;
  for (let left = 1 + (offset % 7); left > 0; left--) {
    const value = "v".repeat(at % 300);
    const key = `key:${at}`;
    const record = `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${value.length}\r\n${value}\r\n`;
    parts.push(record);
    at += record.length;
  }
  return Buffer.from(parts.join(""), "latin1");
}
