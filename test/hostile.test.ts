import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { suite, test } from "node:test";
import { countAllocations } from "./hostile/allocations.ts";
import { mutate } from "./hostile/mutate.ts";
import { Random } from "./hostile/random.ts";
import { runCases } from "./hostile/run.ts";
import { rareFiles } from "./support/rdb-rare.ts";

const cases = 2000;

suite("damaged files", () => {
  test("end in a failure with an offset or are read, in time and in little memory", async (t) => {
    const seed = Number(process.env["HOSTILE_SEED"] ?? randomInt(2 ** 32));
    t.diagnostic(`${cases} cases from seed ${seed}; HOSTILE_SEED=${seed} has them again`);
    const { ends, withKeys } = await runCases(cases, seed);
    // Else the damage is such that nothing is reached.
    assert.ok(withKeys > cases / 2, `${withKeys} cases come to a key`);
    for (const end of ["read", "DATA_CORRUPT", "DATA_UNSUPPORTED", "LIMIT_EXCEEDED"]) {
      assert.ok((ends[end] ?? 0) > cases / 200, `${ends[end]} cases end in ${end}`);
    }
    for (const end of ["log ok", "log torn", "log corrupt"]) assert.ok((ends[end] ?? 0) > 0, end);
  });

  test("are the same again for the same seed", () => {
    const [subject, other] = rareFiles.map((file) => ({
      ...file,
      lengths: [9],
      hasChecksum: true,
    }));
    assert.ok(subject && other);
    for (let seed = 0; seed < 100; seed++) {
      const damaged = (): Uint8Array => mutate(new Random(seed), subject, other);
      assert.deepEqual(damaged(), damaged());
      assert.notEqual(damaged(), subject.bytes);
    }
  });
});

test("countAllocations() sees arrays of bytes, but no views", () => {
  const { largest, total } = countAllocations(() => {
    const bytes = new Uint8Array(1000);
    bytes.subarray(10);
    new Uint8Array(bytes.buffer, 5);
    new Uint32Array(10);
    new Uint8Array(bytes);
  });
  assert.deepEqual([largest, total], [1000, 2040]);
});
