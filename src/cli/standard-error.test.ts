import assert from "node:assert/strict";
import { test } from "node:test";
import { LossyOutput } from "./standard-error.ts";

class Pipe {
  room = 1000;
  taken = "";
  error = "EAGAIN";

  readonly writeSome = (bytes: Uint8Array, at: number): number => {
    if (this.room === 0) throw Object.assign(new Error("no"), { code: this.error });
    const part = bytes.subarray(at, at + Math.min(this.room, 7));
    this.room -= part.length;
    this.taken += Buffer.from(part).toString();
    return part.length;
  };
}

const line = (text: string) => Buffer.from(`${text}\n`);

test("LossyOutput leaves out what cannot be written, and says how much that was when it can be again", () => {
  for (const error of ["EAGAIN", "EPIPE", "ENOSPC", "EIO"]) {
    const pipe = new Pipe();
    pipe.error = error;
    const output = new LossyOutput(pipe.writeSome, 4);
    output.write(line("a first line"));
    pipe.room = 3;
    for (const text of ["second", "third"]) output.write(line(text));
    pipe.room = 1000;
    output.write(line("fourth"));
    output.write(line("fifth"));
    const said = "a first line\nsec\ntidemark: 2 lines could not be written here\nfourth\nfifth\n";
    assert.equal(pipe.taken, said);
  }
});

test("LossyOutput waits for a reader that takes nothing once, and not for each line", () => {
  const pipe = new Pipe();
  const output = new LossyOutput(pipe.writeSome, 50);
  pipe.room = 0;
  const began = performance.now();
  for (let i = 0; i < 1000; i++) output.write(line("x"));
  const tookMs = performance.now() - began;
  assert.ok(tookMs >= 50 && tookMs < 5000, `${tookMs} ms`);
});
