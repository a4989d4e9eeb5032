import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { type Target, targets } from "../src/codec/rdb/model.ts";
import { RdbReader } from "../src/codec/rdb/reader.ts";
import { RdbTranscoder } from "../src/codec/rdb/transcode.ts";
import { RdbWriter } from "../src/codec/rdb/writer.ts";
import { dataSets, expectedLines, options, writeFile } from "./rdb-writer-data.ts";
import { compareDumps } from "./support/compare.ts";
import { isLibrary, parseLines } from "./support/dump.ts";
import { rdbFixtures } from "./support/fixtures.ts";
import { linesOf } from "./support/json-lines.ts";
import { readInChunks } from "./support/rdb-events.ts";
import type { FixtureServerId } from "./support/servers.ts";

suite("what RdbWriter writes, RdbReader reads", () => {
  for (const target of targets) {
    test(`for ${target}, of random data of every type`, () => {
      fc.assert(
        fc.property(dataSets, options, fc.constantFrom(61, 1000, 65_536), (data, how, size) => {
          const file = writeFile(target, data, how);
          const got = linesOf(file, { sizes: [size] });
          const differences = compareDumps(expectedLines(target, data), parseLines(got), {
            how: "contents",
            withoutStreamCounters: target === "redis:6.0",
          });
          assert.deepEqual(differences, []);
        }),
        { numRuns: 4 },
      );
    });
  }
});

/** Which server wrote the fixtures that the target holds all of. */
const origins: readonly (readonly [server: FixtureServerId, targets: readonly Target[]])[] = [
  ["redis-6.0", targets],
  ["redis-7.0", targets.slice(1)],
  ["redis-8.0", ["redis:7.4", "redis:8"]],
  ["valkey-8.1", targets.slice(2)],
  ["valkey-9", ["redis:7.4", "redis:8", "valkey:9"]],
];

const names = ["expires", "functions", "lfu", "multi-db", "streams", "zsets"];

suite("what one server wrote, rewritten for another, reads the same", () => {
  for (const [server, others] of origins) {
    for (const target of others) {
      test(`${server} for ${target}`, () => {
        const fixtures = rdbFixtures(server).filter(({ name }) => names.includes(name));
        assert.ok(fixtures.length >= 5);
        for (const { id, read } of fixtures) {
          const file = read();
          const wanted = parseLines(linesOf(file));
          const got = parseLines(linesOf(rewrite(file, target)));
          const differences = compareDumps(wanted, got, {
            how: "contents",
            freq: true,
            withoutStreamCounters: countsLess(server, target),
          });
          assert.deepEqual(differences, [], id);
          assert.equal(got.filter(isLibrary).length, wanted.filter(isLibrary).length);
        }
      });
    }
  }
});

/** Whether one of both does not count all that the other does: when consumers were active. */
function countsLess(server: string, target: Target): boolean {
  return server === "redis-6.0" || (server === "redis-7.0") !== (target === "redis:7.0");
}

function rewrite(file: Uint8Array, target: Target): Uint8Array {
  const writer = new RdbWriter(target);
  const transcoder = new RdbTranscoder(writer);
  let isKey = false;
  readInChunks(new RdbReader(), file, [4096], (event, reader) => {
    if (event === "function") transcoder.library(reader.parts.first);
    if (event === "key") {
      transcoder.begin(reader);
      isKey = true;
    } else if (isKey) {
      transcoder.accept(event, reader.parts);
      isKey = event !== "string" && event !== "end value";
    }
  });
  transcoder.finish();
  return writer.take();
}
