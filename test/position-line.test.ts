/**
 * Logs with position lines, judged by real servers and their check programs: to them, what
 * `LogWriter` writes is a stock append-only file.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  fileNames,
  formatManifest,
  LogChecker,
  LogCutter,
  LogWriter,
  type PositionLine,
  planRepair,
} from "../src/aof.ts";
import { temporaryFolder } from "./support/folder.ts";
import {
  findServer,
  missingServers,
  type ServerId,
  serverIds,
  startServer,
} from "./support/servers.ts";

const replicationId = "0123456789abcdef0123456789abcdef01234567";
const tricky = "\n#TS:1\r\n#TM1:\0*3\r\n";
const name = "appendonly.aof";
const seconds = 1_795_328_990;
const args = (...words: readonly string[]) => words.map((word) => Buffer.from(word, "latin1"));

/** Batches of a second each: a plain write, a transaction over two databases, and position lines. */
function writeFile(first: number, last: number, after?: PositionLine) {
  const writer = new LogWriter(after === undefined ? {} : { after });
  let offset = after?.offset ?? 1_000;
  writer.seal({ replicationId, offset }, (seconds + first) * 1000);
  for (let batch = first; batch <= last; batch++) {
    const start = writer.length;
    writer.stamp((seconds + batch) * 1000 + 250);
    writer.select(0);
    writer.record(args("SET", `key:${batch}`, tricky));
    writer.begin();
    writer.record(args("INCR", "count"));
    writer.select(3);
    writer.record(args("RPUSH", "list", `${batch}`));
    writer.end();
    offset += writer.length - start;
    writer.seal({ replicationId, offset }, (seconds + batch) * 1000 + 250);
  }
  return { bytes: writer.take(), position: writer.position };
}

/** Two increments without a base; the second one goes on from the first. */
function writeFolder(
  dir: string,
  cutLast = 0,
): { readonly last: string; readonly bytes: Uint8Array } {
  const folder = join(dir, "appendonlydir");
  mkdirSync(folder);
  const one = writeFile(1, 3);
  const two = writeFile(4, 6, one.position);
  const increments = [1, 2].map((sequence) => ({
    file: fileNames.increment(name, sequence),
    sequence,
  }));
  writeFileSync(join(folder, fileNames.increment(name, 1)), one.bytes);
  const last = join(folder, fileNames.increment(name, 2));
  const bytes = two.bytes.subarray(0, two.bytes.length - cutLast);
  writeFileSync(last, bytes);
  const manifest = formatManifest({ base: undefined, history: [], increments });
  writeFileSync(join(folder, fileNames.manifest(name)), manifest);
  return { last, bytes };
}

function checkProgram(id: ServerId, ...options: readonly string[]) {
  const program = findServer(id)?.bin["check-aof"];
  assert.ok(program);
  return spawnSync(program, options, { encoding: "utf8" });
}

function cutAt(bytes: Uint8Array, second: number): number {
  const cutter = new LogCutter({ seconds: second });
  cutter.push(bytes);
  return cutter.finish().offset;
}

for (const id of serverIds.filter((server) => server !== "redis-6.0")) {
  const skip = missingServers(id);
  const conf = { appendonly: "yes", "aof-timestamp-enabled": "yes" };

  test(`${id} loads a log with position lines, appends to it and loads it again`, {
    skip,
  }, async () => {
    using dir = temporaryFolder();
    const { last, bytes } = writeFolder(dir.path);
    for (const count of [6, 7]) {
      await using server = await startServer(id, { dir: dir.path, conf });
      const value = await server.call("GET", "key:6");
      assert.equal((value as Buffer).toString("latin1"), tricky);
      assert.equal(String(await server.call("GET", "count")), String(count));
      await server.call("INCR", "count");
      await server.client.call("SELECT", 3);
      assert.equal(await server.call("LLEN", "list"), 6);
      await server.stop("SIGTERM");
    }
    const appended = readFileSync(last);
    assert.deepEqual(appended.subarray(0, bytes.length), Buffer.from(bytes));
    const checker = new LogChecker();
    checker.push(appended);
    const result = checker.finish();
    assert.equal(result.verdict, "ok");
    assert.equal(result.sealedEnd, bytes.length);
    assert.ok(result.unsealedRecords >= 4);
  });

  test(`${id}'s check program takes a log with position lines`, { skip }, () => {
    using dir = temporaryFolder();
    writeFolder(dir.path);
    const manifest = join(dir.path, "appendonlydir", fileNames.manifest(name));
    const { status, stdout } = checkProgram(id, manifest);
    assert.equal(status, 0, stdout);
  });

  test(`${id}'s check program cuts such a log at a second where LogCutter does`, { skip }, () => {
    for (const second of [seconds + 4, seconds + 5, seconds + 6]) {
      using dir = temporaryFolder();
      const { last, bytes } = writeFolder(dir.path);
      const manifest = join(dir.path, "appendonlydir", fileNames.manifest(name));
      checkProgram(id, "--truncate-to-timestamp", String(second), manifest);
      assert.equal(readFileSync(last).length, cutAt(bytes, second));
    }
  });

  test(`${id} loads such a log from every torn tail once it is repaired`, { skip }, async () => {
    for (const cutLast of [1, 60, 117, 160, 215]) {
      using dir = temporaryFolder();
      const { last, bytes } = writeFolder(dir.path, cutLast);
      const checker = new LogChecker();
      checker.push(bytes);
      const plan = planRepair(checker.finish(), { to: "position" });
      assert.ok(plan);
      writeFileSync(last, bytes.subarray(0, plan.truncateTo));
      await using server = await startServer(id, {
        dir: dir.path,
        conf: { ...conf, "aof-load-truncated": "no" },
      });
      assert.equal(String(await server.call("GET", "count")), "5");
    }
  });
}
