/** S3 over a way on which everything goes wrong that can: nothing is lost, and nothing half visible. */
import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { after, before, suite, test } from "node:test";
import { equalBytes } from "../../src/base/bytes.ts";
import { Failure } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/log/testing.ts";
import { withAbilities } from "../../src/store/abilities.ts";
import { openStore } from "../../src/store/open.ts";
import type { Random } from "../../src/store/retry.ts";
import type { Store, StoreAbilities } from "../../src/store/store.ts";
import { bytesOf, chunksOf, list, mib, namesOf, read } from "./contract.ts";
import { FaultProxy, faults } from "./proxy.ts";
import { missingStorage, type Storage, startMoto, startRadosgw } from "./servers.ts";

const seed = Number(process.env["SEED"] ?? randomSeed());
const rounds = Number(process.env["ROUNDS"] ?? 50);

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] as number;
}

/** What an object may be: the bytes of the last change that is sure, and of those since that are not. */
type Model = Map<string, (Uint8Array | undefined)[]>;

for (const id of ["moto", "radosgw"] as const) {
  suite(`${id} over a bad connection`, { skip: missingStorage(id) }, () => {
    const isGood = id === "moto";
    const abilities: StoreAbilities = {
      conditionalCreate: isGood,
      ranges: isGood,
      parts: isGood,
      overwrite: true,
      listing: true,
      deletes: true,
    };
    let storage: Storage;
    let proxy: FaultProxy;
    const open = async (folder: string, endpoint: string) =>
      withAbilities(await openStore(storage.options(folder, endpoint)), abilities);

    before(async () => {
      storage = await (isGood ? startMoto() : startRadosgw());
      proxy = await FaultProxy.open(storage.port, seededRandom(seed));
    });
    after(async () => {
      await proxy[Symbol.asyncDispose]();
      await storage[Symbol.asyncDispose]();
    });

    test(`keeps what it was given, SEED=${seed}`, async () => {
      await using near = await open("chaos", proxy.endpoint);
      await using direct = await open("chaos", storage.endpoint);
      proxy.chance = 0.25;
      const model: Model = new Map();
      const random = seededRandom(seed + 1);
      for (let round = 0; round < rounds || !hasMetAll(proxy); round++) {
        await change(near, model, random, isGood);
      }
      proxy.chance = 0;
      for (const [name, states] of model) {
        const there = await bytesIn(direct, name);
        assert.ok(
          states.some((state) => isSame(state, there)),
          `${name} is ${there?.length}`,
        );
        model.set(name, [there]);
      }
      const names = [...model].flatMap(([name, [bytes]]) => (bytes === undefined ? [] : [name]));
      assert.deepEqual(namesOf(await list(direct, "")), names.sort());
    });

    test("put() with ifAbsent knows its own object, when the answer was lost", async (t) => {
      if (!isGood) return t.skip("it replaces what there is");
      await using store = await open("lost", proxy.endpoint);
      for (const fault of ["lose-answer", "fail-after", "cut-request", "refuse"] as const) {
        let left = 1;
        proxy.choose = (request) => (request.method === "PUT" && left-- > 0 ? fault : "pass");
        const [mine, other] = [Buffer.from("mine"), Buffer.from("other")];
        assert.equal(await store.put(`new/${fault}`, mine, { ifAbsent: true }), "created", fault);
        left = 1;
        assert.equal(await store.put(`new/${fault}`, other, { ifAbsent: true }), "exists", fault);
        assert.deepEqual(await read(store, `new/${fault}`), mine);
      }
      proxy.choose = undefined;
    });

    test("upload() is done, when only the answer to its end was lost", async (t) => {
      if (!isGood) return t.skip("it takes no parts");
      await using store = await open("ends", proxy.endpoint);
      const bytes = bytesOf(17 * mib);
      for (const fault of ["lose-answer", "fail-after", "cut-answer"] as const) {
        let left = 1;
        const isEnd = (url: string | undefined) => url?.includes("uploadId=") === true;
        proxy.choose = (request) =>
          request.method === "POST" && isEnd(request.url) && left-- > 0 ? fault : "pass";
        await store.upload(fault, chunksOf(bytes, mib));
        assert.ok(left <= 0);
        assert.ok(equalBytes(await read(store, fault), bytes));
      }
      proxy.choose = undefined;
    });

    test("read() goes on where it was cut, and gives up when nothing comes", async () => {
      await using store = await open("cuts", proxy.endpoint);
      const bytes = bytesOf(3 * mib);
      await store.put("o", bytes);
      let left = 5;
      proxy.choose = (request) => (request.method === "GET" && left-- > 0 ? "cut-answer" : "pass");
      assert.ok(equalBytes(await read(store, "o"), bytes));
      assert.ok(left < 0);
      left = 5;
      const range = { start: 1000, end: 2 * mib };
      assert.ok(equalBytes(await read(store, "o", range), bytes.subarray(range.start, range.end)));
      proxy.choose = (request) => (request.method === "GET" ? "refuse" : "pass");
      await assert.rejects(read(store, "o"), { code: "STORE_BUSY", message: /SlowDown/ });
      await assert.rejects(list(store, ""), { code: "STORE_BUSY" });
      proxy.choose = undefined;
    });

    test("nothing is there of an upload that fails half-way", async () => {
      await using store = await open("half", proxy.endpoint);
      let count = 0;
      const isPart = (request: IncomingMessage) =>
        request.method === "PUT" && (!isGood || request.url?.includes("partNumber") === true);
      proxy.choose = (request) => (isPart(request) && ++count > 2 ? "cut-request" : "pass");
      count = isGood ? 0 : 9;
      const upload = store.upload("half", chunksOf(bytesOf(40 * mib), mib));
      await assert.rejects(upload, { code: "STORE_BUSY" });
      proxy.choose = undefined;
      assert.deepEqual(await list(store, ""), []);
    });

    test("wrong credentials and a missing bucket are named, and no secret is", async () => {
      const options = storage.options("x");
      await using nowhere = await openStore({ ...options, bucket: "no-such-bucket" });
      await assert.rejects(list(nowhere, ""), { code: "STORE_FAILED", message: /NoSuchBucket/ });
      await assert.rejects(nowhere.put("a", bytesOf(1)), { code: "STORE_FAILED" });
      await assert.rejects(read(nowhere, "a"), { code: "STORE_FAILED" });
      if (isGood) return;
      const secretAccessKey = "not-the-secret-0123456789";
      const credentials = { accessKeyId: options.credentials?.accessKeyId ?? "", secretAccessKey };
      await using denied = await openStore({ ...options, credentials });
      for (const attempt of [
        () => list(denied, ""),
        () => read(denied, "a"),
        () => denied.put("a", bytesOf(1)),
        () => denied.put("a", bytesOf(1), { ifAbsent: true }),
        () => denied.upload("a", chunksOf(bytesOf(9 * mib), mib)),
        () => denied.delete(["a"]),
      ]) {
        await assert.rejects(attempt, (error) => {
          assert.ok(error instanceof Failure);
          assert.equal(error.code, "STORE_DENIED");
          const { inspect } = process.getBuiltinModule("node:util");
          const all = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error);
          assert.ok(!all.includes(secretAccessKey) && !all.includes(credentials.accessKeyId), all);
          return true;
        });
      }
    });
  });
}

function hasMetAll(proxy: FaultProxy): boolean {
  return faults.every((fault) => proxy.seen[fault] !== undefined);
}

async function change(store: Store, model: Model, random: Random, isGood: boolean) {
  const name = `o/${random.below(12)}`;
  const states = model.get(name) ?? [undefined];
  const sure = states.length === 1 ? states : undefined;
  const bytes = bytesOf(random.below(50_000));
  const unsure = (error: unknown, ...more: (Uint8Array | undefined)[]) => {
    assert.ok(error instanceof Failure && error.code === "STORE_BUSY", String(error));
    model.set(name, [...states, ...more]);
  };
  const kind = random.below(10);
  try {
    if (kind < 3) {
      await store.put(name, bytes);
      model.set(name, [bytes]);
    } else if (kind < 5) {
      const said = await store.put(name, bytes, { ifAbsent: true });
      if (sure && isGood) assert.equal(said, sure[0] === undefined ? "created" : "exists");
      if (said === "created") model.set(name, [bytes]);
    } else if (kind === 5) {
      const large = bytesOf(9 * mib + random.below(mib));
      await store.upload(name, chunksOf(large, mib));
      model.set(name, [large]);
    } else if (kind === 6) {
      await store.delete([name, `o/none`]);
      model.set(name, [undefined]);
    } else if (kind === 7) {
      const names = namesOf(await list(store, "o/"));
      if (sure) assert.equal(names.includes(name), sure[0] !== undefined);
    } else {
      const there = await bytesIn(store, name);
      assert.ok(
        states.some((state) => isSame(state, there)),
        `${name} is ${there?.length}`,
      );
    }
  } catch (error) {
    if (kind < 5) unsure(error, bytes);
    else if (kind === 6) unsure(error, undefined);
    else throw error;
  }
}

async function bytesIn(store: Store, name: string): Promise<Uint8Array | undefined> {
  try {
    return await read(store, name);
  } catch (error) {
    if (error instanceof Failure && error.code === "OBJECT_MISSING") return undefined;
    throw error;
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}
