import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  beganMs,
  type Filled,
  fillRepository,
  flipBit,
  instance,
  pieceMs,
} from "../../test/archive/filled.ts";
import { MemoryStore } from "../../test/archive/memory-store.ts";
import { Failure } from "../base/errors.ts";
import { parseVerifiedMark } from "./backup-set.ts";
import { formatDocument } from "./document.ts";
import { logPrefix, setObject } from "./layout.ts";
import { openObject } from "./repository.ts";
import { openSet, verifyAll, verifyLog, verifySet } from "./verify.ts";

const clock = { now: () => 1_800_000_000_000 };
const options = { clock };
const key = { id: "k", key: Buffer.alloc(32, 7) };
const plain = await fillRepository();
const sealed = await fillRepository(key);

/** The same objects in a store of their own: bytes are shared, and never changed in place. */
function copyOf({ store, ...rest }: Filled): Filled {
  const own = new MemoryStore();
  for (const [name, object] of store.objects) own.objects.set(name, object);
  return { ...rest, store: own, repository: { ...rest.repository, store: own } };
}

suite("verify of what is good", () => {
  for (const [name, filled] of Object.entries({ plain, sealed })) {
    test(`finds nothing, and says what can be restored, ${name}`, async () => {
      const { repository, sets, pieces } = copyOf(filled);
      const { sets: results, log } = await verifyAll(repository, instance, options);
      assert.deepEqual(
        results.map(({ set, isGood, what, findings }) => ({ set, isGood, what, findings })),
        sets.map((set) => ({ set, isGood: true, what: "structure", findings: [] })),
      );
      const { windows, ...rest } = log;
      assert.deepEqual(rest, { pieces: pieces.length, findings: [], holes: [], covered: [] });
      const [window] = windows;
      assert.deepEqual([windows.length, window?.fromMs, window?.sets], [1, beganMs, sets]);
    });
  }

  test("writes verified.json, with the time and the sum of the object", async () => {
    const { repository, store, sets } = copyOf(plain);
    const object = setObject(instance, sets[0], "verified");
    store.objects.delete(object);
    await verifySet(repository, instance, sets[0], { clock, records: false });
    assert.ok(!store.objects.has(object));
    const { manifest } = await verifySet(repository, instance, sets[0], options);
    const bytes = store.objects.get(object)?.bytes as Uint8Array;
    assert.deepEqual(parseVerifiedMark(bytes, object), {
      ...{ format: 1, set: sets[0], ms: clock.now(), what: "structure" },
      sha256: manifest?.snapshot.sha256,
    });
  });

  test("reads each object once, and tells how far it is", async () => {
    const { repository, store } = copyOf(sealed);
    let readBytes = 0;
    const inner = store.read.bind(store);
    store.read = async function* (...args) {
      for await (const chunk of inner(...args)) {
        readBytes += chunk.length;
        yield chunk;
      }
    };
    let last: unknown;
    let told = 0;
    await verifyAll(repository, instance, {
      clock,
      onProgress: (progress) => {
        assert.ok(progress.bytes >= told);
        told = progress.bytes;
        last = progress;
      },
    });
    const objects = [...store.objects].filter(([name]) => name.endsWith(".zst"));
    const totalBytes = objects.reduce((sum, [, { bytes }]) => sum + bytes.length, 0);
    assert.deepEqual(last, {
      ...{ objects: 6, totalObjects: 6, bytes: totalBytes, totalBytes, findings: 0 },
    });
    // The index is read before, and with these small objects is most of them.
    assert.ok(readBytes < 2.5 * totalBytes, `${readBytes} of ${totalBytes}`);
  });

  test("of a part of the log looks at that part only", async () => {
    const { repository } = copyOf(plain);
    const range = { fromMs: beganMs + 1.5 * pieceMs, toMs: beganMs + 2.5 * pieceMs };
    const { pieces, findings } = await verifyLog(repository, instance, { clock, ...range });
    assert.deepEqual([pieces, findings], [2, []]);
  });
});

suite("verify of what is damaged", () => {
  for (const [name, filled] of Object.entries({ plain, sealed })) {
    test(`finds any flipped bit of any object, and no other is blamed, ${name}`, async () => {
      const names = [...filled.store.objects.keys()];
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...names), fc.nat(), async (object, random) => {
          const { repository, store, sets } = copyOf(filled);
          const size = store.objects.get(object)?.bytes.length as number;
          flipBit(store, object, random % (size * 8));
          const { sets: results, log } = await verifyAll(repository, instance, options);
          const findings = [...results.flatMap((result) => result.findings), ...log.findings];
          assert.ok(findings.length > 0, `bit ${random % (size * 8)} of ${object}`);
          const blamed = new Set(findings.map((finding) => finding.object));
          // The piece behind a damaged one is told apart from it by its own index.
          assert.deepEqual([...blamed], [object]);
          const good = results.filter(({ isGood }) => isGood).map(({ set }) => set);
          const isOfSet = /\/(snapshot\.rdb\.zst|manifest\.json)$/.test(object);
          const wanted = isOfSet ? sets.filter((set) => !object.includes(set)) : sets;
          assert.deepEqual(good, wanted);
          // Only what is good is called so.
          for (const set of sets) {
            const mark = store.objects.get(setObject(instance, set, "verified"));
            assert.equal(mark !== undefined, good.includes(set));
          }
        }),
        { numRuns: 250 },
      );
    });
  }

  test("names each damaged block; the others and other objects still restore", async () => {
    const { repository, store, sets, rdb } = copyOf(plain);
    const object = setObject(instance, sets[0], "snapshot");
    const sizeBytes = store.objects.get(object)?.bytes.length as number;
    const { index, ...reader } = await openIt(repository, object, sizeBytes);
    assert.ok(index.blocks.length >= 5);
    for (const block of [1, 3]) flipBit(store, object, (reader.starts[block] as number) * 8 + 40);
    const result = await verifySet(repository, instance, sets[0], options);
    assert.deepEqual(
      result.findings.map(({ block, offset }) => ({ block, offset })),
      [1, 3].map((block) => ({ block, offset: reader.starts[block] })),
    );
    assert.match(
      result.findings[0]?.found ?? "",
      /snapshot\.rdb\.zst.*block 1 is damaged, at byte/,
    );
    const damaged = await openObject(repository, object, sizeBytes);
    await assert.rejects(Array.fromAsync(damaged.rawBytes()), {
      code: "DATA_CORRUPT",
      message: /block 1/,
    });
    const block2 = Buffer.concat(await Array.fromAsync(damaged.rawBytes({ from: 2, to: 3 })));
    const start = damaged.rawStarts[2] as number;
    assert.ok(block2.equals(rdb.subarray(start, start + block2.length)));
    const other = await openSet(repository, instance, sets[1]);
    const all = Buffer.concat(await Array.fromAsync(other.reader.rawBytes()));
    assert.ok(all.equals(rdb));
  });

  test("says which windows remain without a damaged piece", async () => {
    const { repository, store, pieces, sets } = copyOf(plain);
    flipBit(store, pieces[1] as string, 400);
    const { findings, windows, holes } = await verifyLog(repository, instance, options);
    assert.deepEqual(
      findings.map(({ object, block }) => ({ object, block })),
      [{ object: pieces[1], block: 0 }],
    );
    assert.deepEqual(holes, []);
    assert.deepEqual(
      windows.map(({ fromMs, toMs, sets: names }) => ({ fromMs, toMs, names })),
      [{ fromMs: beganMs, toMs: beganMs + pieceMs, names: [sets[0]] }],
    );
  });

  test("takes what is wrong once, and right when it is read again, for no damage", async () => {
    const { repository, store, sets } = copyOf(plain);
    const inner = store.read.bind(store);
    let isWrong = true;
    store.read = async function* (name, range) {
      for await (const chunk of inner(name, range)) {
        if (isWrong && name.endsWith("rdb.zst") && range?.start === 0) {
          isWrong = false;
          chunk[100] = (chunk[100] as number) ^ 1;
        }
        yield chunk;
      }
    };
    const { isGood } = await verifySet(repository, instance, sets[0], options);
    assert.deepEqual([isGood, isWrong], [true, false]);
  });

  test("throws what says nothing of the objects", async () => {
    const { repository, store, sets } = copyOf(plain);
    store.read = async function* () {
      yield* [];
      throw new Failure("STORE_BUSY", "away");
    };
    await assert.rejects(verifySet(repository, instance, sets[0], options), { code: "STORE_BUSY" });
    await assert.rejects(verifyLog(repository, instance, options), { code: "STORE_BUSY" });
    const missing = verifySet(repository, instance, "2026-05-01T10-00-00.000Z-ffff", options);
    await assert.rejects(missing, { code: "OBJECT_MISSING" });
  });

  test("is refused without the key, and then calls nothing damaged", async () => {
    const { repository, store, sets } = copyOf(sealed);
    const locked = { ...repository, keys: () => undefined };
    await assert.rejects(verifySet(locked, instance, sets[0], options), {
      code: "KEY_NEEDED",
      message: /encrypted with key "k"/,
    });
    assert.ok(store.objects.has(setObject(instance, sets[0], "verified")));
  });

  test("leaves the mark of a set that a newer version has written", async () => {
    const { repository, store, sets } = copyOf(plain);
    const object = setObject(instance, sets[0], "manifest");
    store.objects.set(object, { bytes: formatDocument({ format: 2 }), modifiedMs: 0 });
    const { isGood, findings } = await verifySet(repository, instance, sets[0], options);
    assert.deepEqual([isGood, findings[0]?.code], [false, "DATA_UNSUPPORTED"]);
    assert.ok(store.objects.has(setObject(instance, sets[0], "verified")));
  });
});

suite("verify where nothing may be written", () => {
  const deny = (store: MemoryStore) => {
    const denied = async () => {
      throw new Failure("STORE_DENIED", "Cannot write there: it is read-only");
    };
    Object.assign(store, { put: denied, delete: denied });
  };

  test("tells what was found all the same, and that it was not recorded", async () => {
    const { repository, store, sets, pieces } = copyOf(plain);
    flipBit(store, setObject(instance, sets[0], "snapshot"), 400);
    flipBit(store, pieces[1] as string, 400);
    deny(store);
    const lenient = { clock, records: "where possible" } as const;
    const { sets: results, log } = await verifyAll(repository, instance, lenient);
    assert.deepEqual(
      results.map(({ isGood, notRecorded }) => [isGood, notRecorded]),
      [
        [false, "Cannot write there: it is read-only"],
        [true, "Cannot write there: it is read-only"],
      ],
    );
    assert.equal(log.findings.length, 1);
  });

  test("fails for whoever needs the mark", async () => {
    const { repository, store, sets } = copyOf(plain);
    deny(store);
    const verifying = verifySet(repository, instance, sets[0], options);
    await assert.rejects(verifying, { code: "STORE_DENIED" });
  });
});

suite("verify of what is in the wrong place", () => {
  test("finds a log that lies under the name of another one", async () => {
    const { repository, store, pieces } = copyOf(plain);
    const line = (pieces[0] as string).split("/")[3] as string;
    const wrong = line.replace(/\d{16}$/, "0000000000000007");
    for (const piece of pieces) {
      store.objects.set(piece.replace(line, wrong), store.objects.get(piece) as never);
      store.objects.delete(piece);
    }
    const { findings } = await verifyLog(repository, instance, options);
    assert.deepEqual(
      findings.map(({ found }) => found),
      [`"${pieces[0]?.replace(line, wrong)}" begins line "${line}", and lies in "${wrong}"`],
    );
  });

  test("finds a missing snapshot, and a manifest of another set", async () => {
    const { repository, store, sets } = copyOf(plain);
    const [first, second] = sets;
    const manifest = store.objects.get(setObject(instance, second, "manifest"));
    store.objects.set(setObject(instance, first, "manifest"), manifest as never);
    store.objects.delete(setObject(instance, second, "snapshot"));
    const { sets: results } = await verifyAll(repository, instance, options);
    const found = results.map(({ findings }) => findings[0]?.found ?? "");
    assert.match(found[0] ?? "", /it is of set/);
    assert.match(found[1] ?? "", /it is not there/);
  });

  test("finds an object that is whole, and another one than the manifest or name says", async () => {
    const other = await fillRepository(undefined, 2);
    const { repository, store, sets, pieces } = copyOf(plain);
    const swap = (to: string, from: string) => {
      store.objects.set(to, store.objects.get(from) as never);
    };
    const snapshot = setObject(instance, sets[0], "snapshot");
    swap(snapshot, pieces[0] as string);
    const { findings } = await verifySet(repository, instance, sets[0], options);
    assert.match(findings.map(({ found }) => found).join("\n"), /it is a log, no snapshot/);
    swap(pieces[1] as string, pieces[2] as string);
    swap(pieces[3] as string, setObject(instance, sets[1], "snapshot"));
    const log = await verifyLog(repository, instance, options);
    const words = log.findings.map(({ found }) => found).join("\n");
    assert.match(words, /has sha256 .* its name says/);
    assert.match(words, /has firstSequence 41; its name says 21/);
    assert.match(words, /it is a snapshot, no log/);
    assert.equal(other.pieces.length, 2);
  });

  test("takes nothing for damaged that was removed since it was listed", async () => {
    const { repository, store, sets, pieces } = copyOf(plain);
    const inner = store.read.bind(store);
    let isFirst = true;
    store.read = async function* (...args) {
      // An expiry: the first set and the first piece go, when the first object is looked at.
      if (isFirst) {
        for (const name of [...store.objects.keys()].filter((each) => each.includes(sets[0]))) {
          store.objects.delete(name);
        }
        store.objects.delete(pieces[0] as string);
      }
      isFirst = false;
      yield* inner(...args);
    };
    const { sets: results, log } = await verifyAll(repository, instance, options);
    assert.deepEqual(
      results.map(({ set, isGood }) => ({ set, isGood })),
      [{ set: sets[1], isGood: true }],
    );
    assert.deepEqual([log.findings, log.holes, log.windows.length], [[], [], 1]);
    assert.deepEqual(log.windows[0]?.sets, [sets[1]]);
    assert.ok(!store.objects.has(setObject(instance, sets[0], "verified")));
  });

  test("tells holes, and covered pieces, which are not read", async () => {
    const { repository, store, pieces } = copyOf(plain);
    store.objects.delete(pieces[1] as string);
    const covered = (pieces[2] as string).replace(/\.[0-9a-f]{64}\./, `.${"0".repeat(64)}.`);
    store.objects.set(covered, { bytes: Buffer.from("rubbish"), modifiedMs: 0 });
    const { holes, covered: told, findings } = await verifyLog(repository, instance, options);
    assert.equal(holes.length, 1);
    assert.ok(holes[0]?.line && logPrefix(instance, holes[0].line).length > 0);
    assert.deepEqual([holes[0].from.sequence, holes[0].to.sequence], [20, 41]);
    assert.equal(told.length, 1);
    assert.ok(findings.length <= 1);
  });

  test("finds a piece that goes on from another line than the piece before ends with", async () => {
    const { repository, store, pieces } = copyOf(plain);
    const twin = await fillTwin();
    // The same sequence numbers, offsets and times; other bytes before.
    for (const [name, object] of twin.objects) store.objects.set(name, object);
    store.objects.delete(pieces[0] as string);
    const { findings } = await verifyLog(repository, instance, options);
    assert.match(findings[0]?.found ?? "", /goes on from position line 20 .* ends with 20/);
    assert.equal(findings[0]?.object, pieces[1]);
  });
});

/** The first piece, in which one value has been another one from the start. */
async function fillTwin(): Promise<MemoryStore> {
  const { addPiece } = await import("../../test/archive/filled.ts");
  const { LogWriter } = await import("../codec/aof/writer.ts");
  const { LogScanner } = await import("../codec/aof/log-scanner.ts");
  const { repository, log, store, pieces } = copyOf(plain);
  store.objects.clear();
  const writer = new LogWriter();
  const scanner = new LogScanner();
  scanner.push(log);
  let batch = 0;
  for (let item = scanner.next(); writer.position?.sequence !== 20; item = scanner.next()) {
    const { start, end } = scanner.scanner;
    if (item === "record") {
      const bytes = new Uint8Array(log.subarray(start, end));
      // A digit of the last value before the last line.
      if (batch === 19) bytes[bytes.length - 3] = 0x21;
      writer.raw(bytes);
    } else if (item === "position" && scanner.position !== undefined) {
      writer.seal(scanner.position, scanner.position.ms);
      if (scanner.position.sequence > 0) batch++;
    }
  }
  const line = (pieces[0] as string).split("/")[3] as string;
  const parts = { line, bytes: writer.take(), before: undefined, last: writer.position };
  await addPiece(repository, parts);
  return store;
}

async function openIt(repository: Filled["repository"], object: string, sizeBytes: number) {
  const reader = await openObject(repository, object, sizeBytes);
  const starts = reader.index.blocks.map((_, block) => reader.storedBytes({ from: 0, to: block }));
  return { index: reader.index, starts };
}
