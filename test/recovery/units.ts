/**
 * The units of a recorded log with their positions, told in another way than by the code under test:
 * the whole log is split into words in memory, and positions are counted back from each line.
 */
export type LogUnit = { readonly end: number; readonly offset: number };

export function unitsOf(log: Uint8Array): LogUnit[] {
  const bytes = Buffer.from(log);
  const all: LogUnit[] = [];
  let batch: { end: number; size: number }[] = [];
  let size = 0;
  let depth = 0;
  for (let at = 0; at < bytes.length; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    const line = bytes.toString("latin1", at, lineEnd);
    if (line.startsWith("#")) {
      at = lineEnd + 2;
      const offset = /^#TM1:[0-9a-f]{40}:(\d+):/.exec(line)?.[1];
      if (offset === undefined) continue;
      const total = size;
      all.push(
        ...batch.map((unit) => ({ end: unit.end, offset: Number(offset) - (total - unit.size) })),
      );
      batch = [];
      size = 0;
      continue;
    }
    const start = at;
    at = lineEnd + 2;
    let name = "";
    for (let left = Number(line.slice(1)); left > 0; left--) {
      const headEnd = bytes.indexOf("\r\n", at);
      const length = Number(bytes.toString("latin1", at + 1, headEnd));
      if (name === "")
        name = bytes.toString("latin1", headEnd + 2, headEnd + 2 + length).toUpperCase();
      at = headEnd + 2 + length + 2;
    }
    size += at - start;
    if (name === "MULTI") depth++;
    if (name === "EXEC") depth--;
    if (depth === 0) batch.push({ end: at, size });
  }
  return all;
}
