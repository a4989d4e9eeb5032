/**
 * What the RDB writer writes for a target, loaded by a real server of that target, or of the
 * nearest version that there is, and read back over the protocol.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { toLatin1 } from "../src/base/bytes.ts";
import { encodeDump, encodeFunctionDump, openDumpPayload } from "../src/codec/rdb/dump.ts";
import { ListpackEncoder } from "../src/codec/rdb/encode-listpack.ts";
import { type StreamId, type Target, targets } from "../src/codec/rdb/model.ts";
import { RdbReader } from "../src/codec/rdb/reader.ts";
import { capabilities } from "../src/codec/rdb/target.ts";
import { RdbWriter, type WriterOptions } from "../src/codec/rdb/writer.ts";
import type { ValueWriter } from "../src/codec/rdb/writer-value.ts";
import {
  bytesOf,
  dataSets,
  expectedLines,
  inTheFuture,
  type Key,
  never,
  type Options,
  options,
  slice,
  writeFile,
  writeValue,
} from "./rdb-writer-data.ts";
import { assertSameDump } from "./support/compare.ts";
import { temporaryFolder } from "./support/folder.ts";
import {
  missingServers,
  type RunningServer,
  type ServerId,
  startServer,
} from "./support/servers.ts";

const serverOf: Readonly<Record<Target, ServerId>> = {
  "redis:6.0": "redis-6.0",
  "redis:7.0": "redis-7.0",
  "redis:7.2": "redis-8.0",
  "redis:7.4": "redis-8.0",
  "redis:8": "redis-8.0",
  "valkey:8": "valkey-8.1",
  "valkey:9": "valkey-9",
};
/** The newest servers that must load a target's files as well, and check every packed value. */
const laterServerOf: Readonly<Record<Target, ServerId>> = {
  "redis:6.0": "valkey-9",
  "redis:7.0": "valkey-9",
  "redis:7.2": "valkey-9",
  "redis:7.4": "redis-8.6",
  "redis:8": "redis-8.6",
  "valkey:8": "valkey-9",
  "valkey:9": "valkey-9",
};

/** Starts a server on a file. Where servers check packed values only when told to, it is told to. */
async function load(id: ServerId, dir: string, file: Uint8Array): Promise<RunningServer> {
  writeFileSync(join(dir, "dump.rdb"), file);
  const isTold = id !== "redis-6.0" && id !== "valkey-9";
  return await startServer(id, { dir, conf: isTold ? { "sanitize-dump-payload": "yes" } : {} });
}

/** The data come out of a seed, for a failure to name that instead of all of them. */
function sample(seed: number): [Key[], Options] {
  return fc.sample(fc.tuple(dataSets, options), { seed, numRuns: 1 })[0] as [Key[], Options];
}

for (const target of targets) {
  const id = serverOf[target];
  const title = `what is written for ${target} loads in ${id} and reads back equal`;
  test(title, { skip: missingServers(id) }, async () => {
    const run = async (seed: number) => {
      const [data, chosen] = sample(seed);
      using folder = temporaryFolder();
      const file = writeFile(target, data, { ...chosen, aofBase: false, ctimeSeconds: 1 });
      await using server = await load(id, folder.path, file);
      assertSameDump(expectedLines(target, data), await server.dump());
    };
    await fc.assert(fc.asyncProperty(fc.integer(), run), { numRuns: 2, endOnFailure: true });
  });
}

for (const target of targets) {
  const id = serverOf[target];
  test(`for ${target} the writer chooses the types that ${id} saves`, {
    skip: missingServers(id),
  }, async () => {
    const run = async (seed: number) => {
      const [data] = sample(seed);
      using folder = temporaryFolder();
      const file = writeFile(target, data);
      await using server = await load(id, folder.path, file);
      await server.call("SAVE");
      assert.deepEqual(typesIn(file), typesIn(readFileSync(join(folder.path, "dump.rdb"))));
    };
    await fc.assert(fc.asyncProperty(fc.integer(), run), { numRuns: 1, endOnFailure: true });
  });
}

for (const target of targets) {
  const id = laterServerOf[target];
  test(`what is written for ${target} loads in ${id} too`, {
    skip: missingServers(id),
  }, async () => {
    const run = async (seed: number) => {
      const [data, chosen] = sample(seed);
      const plain = data.filter(({ value }) => value.type !== "stream");
      using folder = temporaryFolder();
      await using server = await load(
        id,
        folder.path,
        writeFile(target, plain, { compress: chosen.compress }),
      );
      assertSameDump(expectedLines(target, plain), await server.dump());
    };
    await fc.assert(fc.asyncProperty(fc.integer(), run), { numRuns: 1, endOnFailure: true });
  });
}

/** Type of each key of a file, with its database in front. */
function typesIn(file: Uint8Array): Record<string, number> {
  const reader = new RdbReader();
  const types: Record<string, number> = {};
  reader.push(file);
  for (let event = reader.next(); event !== undefined && event !== "end"; event = reader.next()) {
    if (event !== "key") continue;
    types[`${reader.database} ${reader.key.latin1()}`] = reader.type;
    reader.skip();
  }
  return types;
}

for (const target of targets) {
  const id = serverOf[target];
  test(`payloads for ${target} are restored by ${id}`, { skip: missingServers(id) }, async () => {
    const run = async (seed: number) => {
      const [data, chosen] = sample(seed);
      const canExpire = capabilities[target].fieldExpiry !== "none";
      await using server = await startServer(id);
      for (const { key, value, expireAtMs } of data) {
        const write = (writer: ValueWriter) => writeValue(writer, value, canExpire);
        const payload = encodeDump(target, bytesOf(key), write, chosen);
        assert(payload !== undefined);
        await server.call("RESTORE", bytesOf(key), expireAtMs ?? 0, payload, "ABSTTL");
      }
      const expected = expectedLines(target, data).map((line) => ({ ...line, db: 0 }));
      assertSameDump(expected, await server.dump());
    };
    await fc.assert(fc.asyncProperty(fc.integer(), run), { numRuns: 1, endOnFailure: true });
  });
}

/** A file of one key or a few. */
function fileOf(
  target: Target,
  write: (writer: RdbWriter) => void,
  settings?: WriterOptions,
): Uint8Array {
  const writer = new RdbWriter(target, settings);
  write(writer);
  writer.finish();
  return writer.take();
}

for (const target of targets) {
  const id = serverOf[target];
  const skip = missingServers(id);

  test(`${id} keeps the sign of a score of -0 that is written for ${target}`, {
    skip,
  }, async () => {
    const members = (count: number) => Array.from({ length: count }, (_, i) => `m${i}`);
    const file = fileOf(target, (writer) => {
      for (const [key, count] of [
        ["small", 3],
        ["large", 200],
      ] as const) {
        const value = writer.key(bytesOf(key));
        value.beginZset(count);
        for (const member of members(count)) value.member(slice(member), -0);
        value.endValue();
      }
    });
    using folder = temporaryFolder();
    await using server = await load(id, folder.path, file);
    for (const key of ["small", "large"]) {
      assert.equal(String(await server.call("ZSCORE", key, "m1")), "-0");
    }
  });

  test(`${id} skips what stands for empty nodes of a list written for ${target}`, {
    skip,
  }, async () => {
    const elements = ["a", "1", "x".repeat(16378), "b", "y".repeat(9000), "c"];
    const write = (writer: RdbWriter) => {
      const value = writer.key(bytesOf("l"));
      value.beginList({ nodes: 7 });
      for (const [i, element] of elements.entries()) {
        if (i % 4 !== 1) value.node();
        value.element(slice(element));
        if (i === 3) value.node();
      }
      value.endValue();
    };
    for (const listWaitBytes of [1, 1000, 2 ** 24]) {
      using folder = temporaryFolder();
      const file = fileOf(target, write, { listWaitBytes });
      await using server = await load(id, folder.path, file);
      assert.deepEqual((await server.call("LRANGE", "l", 0, -1))?.toString(), elements.toString());
      await server.call("LPUSH", "l", "z");
      await server.call("LREM", "l", -1, "a");
      assert.equal(Number(await server.call("LLEN", "l")), elements.length);
    }
  });

  test(`${id} walks entries of any length in streams written for ${target}`, { skip }, async () => {
    for (const form of ["old", "minimal"] as const) {
      const long = "v".repeat(16378);
      const listpack = new ListpackEncoder(form);
      const add = (text: string) => listpack.element(bytesOf(text), 0, text.length);
      listpack.begin();
      for (const text of ["2", "0", "1", "f", "0"]) add(text);
      for (const text of ["2", "0", "0", long, "4", "2", "0", "1", "w", "4"]) add(text);
      const size = listpack.finish();
      const file = fileOf(target, (writer) => {
        const value = writer.key(bytesOf("s"));
        value.beginStream(1);
        value.streamNode(
          slice("\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"),
          slice(toLatin1(listpack.bytes, 0, size)),
        );
        const [firstId, lastId, none] = [1n, 2n, 0n].map((seq) => ({ ms: seq && 1n, seq })) as Ids;
        const length = { length: 2, statedLength: 2, entriesAdded: 2n };
        const ids = { firstId, lastId, maxDeletedId: none };
        value.streamInfo({ ...length, ...ids, isComplete: true, groups: 0 });
        value.endValue();
      });
      using folder = temporaryFolder();
      await using server = await load(id, folder.path, file);
      const found = await server.call("XRANGE", "s", "-", "+");
      assert.equal(String(found), `1-1,f,${long},1-2,f,w`);
    }
  });

  test(`${id} takes idle times and frequencies written for ${target}`, { skip }, async () => {
    const file = fileOf(target, (writer) => {
      writer
        .key(bytesOf("idle"), { idleSeconds: 5000, expireAtMs: inTheFuture })
        .string(slice("i"));
      writer.key(bytesOf("used"), { frequency: 200 }).string(slice("u"));
      writer.key(bytesOf("ever"), { expireAtMs: -1n }).string(slice("e"));
    });
    using folder = temporaryFolder();
    for (const [policy, command, key] of [
      ["allkeys-lru", "IDLETIME", "idle"],
      ["allkeys-lfu", "FREQ", "used"],
    ] as const) {
      writeFileSync(join(folder.path, "dump.rdb"), file);
      await using server = await startServer(id, {
        dir: folder.path,
        conf: { "maxmemory-policy": policy },
      });
      const [low, high] = key === "idle" ? [5000, 5060] : [190, 200];
      const found = Number(await server.call("OBJECT", command, key));
      assert(found >= low && found <= high, `${command} ${found}`);
      assert.equal(await server.call("TTL", "ever"), -1);
    }
  });

  if (!capabilities[target].hasFunctions) continue;
  test(`${id} runs functions written for ${target}`, { skip }, async () => {
    const code = bytesOf(
      "#!lua name=tide\nredis.register_function('rise', function() return 'high' end)",
    );
    using folder = temporaryFolder();
    const file = fileOf(target, (writer) => writer.functionLibrary(code));
    await using server = await load(id, folder.path, file);
    assert.equal(String(await server.call("FCALL", "rise", 0)), "high");
    await server.call("FUNCTION", "RESTORE", encodeFunctionDump([code]), "FLUSH");
    assert.equal(String(await server.call("FCALL", "rise", 0)), "high");
  });
}

type Ids = [StreamId, StreamId, StreamId];

for (const target of ["redis:7.4", "valkey:9"] as const) {
  const id = serverOf[target];
  test(`${id} has the field expiries written for ${target}`, {
    skip: missingServers(id),
  }, async () => {
    const count = 700;
    for (const hashWaitBytes of [1, 2 ** 22]) {
      using folder = temporaryFolder();
      const file = fileOf(
        target,
        (writer) => {
          const value = writer.key(bytesOf("h"));
          value.beginHash(count, true);
          for (let i = 0; i < count; i++) {
            const at =
              i % 3 === 0 ? never : i % 3 === 1 ? inTheFuture - i : i === 2 ? 0 : 2 ** 48 - 1;
            value.field(slice(`f${i}`), slice(`${i}`), at);
          }
          value.endValue();
        },
        { hashWaitBytes },
      );
      await using server = await load(id, folder.path, file);
      const ask = async (i: number) =>
        String(await server.call("HPEXPIRETIME", "h", "FIELDS", 1, `f${i}`));
      assert.equal(await ask(0), "-1");
      assert.equal(await ask(1), String(inTheFuture - 1));
      assert.equal(await ask(2), "-2", "It expired in 1970");
      assert.equal(await ask(5), String(2 ** 48 - 1));
      assert.equal(await ask(697), String(inTheFuture - 697));
      assert.equal(await server.call("HLEN", "h"), count - 1);
    }
  });
}

test("redis-8.0 has the vector set written for redis:8", {
  skip: missingServers("redis-8.0"),
}, async () => {
  const name = "vectors";
  using folder = temporaryFolder();
  let raw: Uint8Array;
  {
    await using server = await startServer("redis-8.0");
    await server.call("VADD", name, "VALUES", 2, "0.5", "1", "one");
    raw = (await server.call("DUMP", name)) as Buffer;
  }
  const { content } = openDumpPayload(raw);
  const file = fileOf("redis:8", (writer) => {
    const value = writer.key(bytesOf(name));
    value.beginModule("vectorset");
    value.moduleBytes(slice(toLatin1(content, 1, 9)));
    value.moduleBytes(slice(toLatin1(content, 9)));
    value.endValue();
  });
  await using server = await load("redis-8.0", folder.path, file);
  assert.equal(String(await server.call("VSIM", name, "ELE", "one")), "one");
});
