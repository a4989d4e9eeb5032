/**
 * How fast the records of an append-only file are framed, beside two bare walks over the same bytes.
 *
 * `indexOf("*")` from record to record: the values hold no star, so this finds as many places with
 * the engine's own search, and knows nothing of what lies between them. And a walk that trusts every
 * byte: it reads the numbers and steps over the rest, checks nothing, keeps no places, and has all
 * of the log in one piece. Nothing that looks at each header can be faster than that.
 */
import { RecordScanner } from "../src/codec/aof/framing.ts";

const commands = 5_000_000;
const chunkBytes = 1024 * 1024;
const rounds = 5;

/** Three of four are `SET` with a 16-byte key and a 64-byte value, the others a small `INCR`. */
function fill(): Uint8Array {
  const value = "v".repeat(64);
  const parts: Buffer[] = [];
  for (let i = 0; i < commands; ) {
    let text = "";
    for (const last = Math.min(i + 10_000, commands); i < last; i++) {
      const key = `key:${String(i).padStart(12, "0")}`;
      text +=
        i % 4 === 3
          ? `*2\r\n$4\r\nINCR\r\n$16\r\n${key}\r\n`
          : `*3\r\n$3\r\nSET\r\n$16\r\n${key}\r\n$64\r\n${value}\r\n`;
    }
    parts.push(Buffer.from(text, "latin1"));
  }
  return Buffer.concat(parts);
}

function scan(log: Uint8Array): number {
  const scanner = new RecordScanner();
  for (let at = 0; at < log.length; at += chunkBytes) {
    scanner.push(log.subarray(at, at + chunkBytes));
    while (scanner.next() !== "more");
  }
  return scanner.records;
}

function search(log: Uint8Array): number {
  let count = 0;
  for (let at = log.indexOf(42); at >= 0; at = log.indexOf(42, at + 1)) count++;
  return count;
}

function trust(log: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < log.length; count++) {
    let rest = 0;
    for (at++; log[at] !== 13; at++) rest = rest * 10 + (log[at] as number) - 48;
    at += 2;
    for (; rest > 0; rest--) {
      let length = 0;
      for (at++; log[at] !== 13; at++) length = length * 10 + (log[at] as number) - 48;
      at += length + 4;
    }
  }
  return count;
}

/** Commands a second: the median of several rounds. */
function measure(run: (log: Uint8Array) => number, log: Uint8Array): number {
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const count = run(log);
    seconds.push((performance.now() - start) / 1000);
    if (count !== commands) throw new Error(`${count} commands were found`);
  }
  return commands / (seconds.sort((a, b) => a - b)[rounds >> 1] as number);
}

const log = fill();
console.log(`${commands} commands, ${(log.length / 1e6).toFixed(0)} MB, median of ${rounds}`);
const framed = measure(scan, log);
for (const [name, speed] of [
  ["framing", framed],
  ['indexOf("*")', measure(search, log)],
  ["trusting walk", measure(trust, log)],
] as const) {
  const ratio = (framed / speed).toFixed(2);
  console.log(
    `${name.padEnd(14)} ${(speed / 1e6).toFixed(1).padStart(6)} M commands/s, framing is ${ratio}x`,
  );
}
console.log(`framing reads ${((log.length * framed) / commands / 1e9).toFixed(2)} GB/s`);
