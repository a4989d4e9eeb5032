import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import {
  type Bytes,
  bytes,
  hex,
  id,
  int64,
  length,
  listpack,
  literalLzf,
  lzf,
  rawId,
  record,
  string,
  uncheckedFile,
} from "../../../test/support/rdb-bytes.ts";
import { eventsOf } from "../../../test/support/rdb-events.ts";
import { Failure } from "../../base/errors.ts";
import { compareIds, formatId } from "./stream.ts";

type Version = 1 | 2 | 3 | 4 | 5;
const types: Readonly<Record<Version, number>> = { 1: 15, 2: 19, 3: 21, 4: 26, 5: 27 };

/** What a stream decodes to, from "begin" on; the same in one piece and byte by byte. */
function decode(version: Version, ...value: readonly Bytes[]): string[] {
  const whole = uncheckedFile("REDIS0015", record(types[version], ...value));
  const events = eventsOf(whole);
  assert.deepEqual(eventsOf(whole, { sizes: [1] }), events);
  assert.deepEqual(eventsOf(whole, { mode: "skip" }).at(-1), "end");
  return events.slice(1, -2);
}

function refuses(version: Version, value: readonly Bytes[], message: RegExp): void {
  assert.throws(() => decode(version, ...value), { code: "DATA_CORRUPT", message });
}

type Element = number | bigint | string;

/** A node: its master id and the elements of its listpack. */
function node(ms: number | bigint, seq: number | bigint, ...elements: Element[]): Uint8Array {
  return bytes(string(rawId(ms, seq)), string(listpack(...elements)));
}

/** What stands behind the nodes: of so many entries, without groups. */
function about(version: Version, entries: number, groups: number): Uint8Array {
  const more = version === 1 ? [] : [id(1, 1), id(1, 0), length(entries + 1)];
  return bytes(length(entries), id(9, 9), ...more, length(groups));
}

const noEntries = (version: Version, groups: number) => bytes([0], about(version, 0, groups));

/** Behind all groups from version 4 on. */
const idle = (version: Version) =>
  version < 4 ? [] : [bytes(length(100), length(100), [0, 0, 0])];

const versions: readonly Version[] = [1, 2, 3, 4, 5];

suite("entries of a stream", () => {
  test("are read as Redis 8.0 wrote them: tombstones, own fields, ids that go backwards", () => {
    const dump = hex(`
      01 10 0000000000000001 0000000000000001 4040 400000001800
      0201 0101 0101 816602 0001 | 0201 0001 0001 82763103 0401
      0301 0001 0101 dff902 0401 | 0001 0101 dfff02 0201 816602 817802 816702 817902 0801 ff
      02 0200 0101 0102 03 01 026772 0101 81ffffffffffffffff
      01 0000000000000001 0000000000000001 54e2e701a2010000 01
      01 02616c 54e2e701a2010000 54e2e701a2010000 01 0000000000000001 0000000000000001`);
    assert.deepEqual(decode(3, dump), [
      ...["begin 1 nodes", "node", "entry 1-1 f v1", "entry 2-0 f x g y"],
      'stream {"length":2,"statedLength":2,"lastId":"2-0","firstId":"1-1","maxDeletedId":"1-2","entriesAdded":"3","isComplete":true,"groups":1}',
      'group {"name":"gr","lastId":"1-1","entriesRead":null,"pending":1}',
      'pending {"id":"1-1","deliveredAtMs":"1795328303700","deliveries":1}',
      "consumers 1",
      'consumer {"name":"al","seenMs":"1795328303700","activeMs":"1795328303700","pending":1}',
      "consumer pending 1-1",
    ]);
  });

  test("keep ids over all 64 bits, counted from the master's and around the end", () => {
    const top = 2n ** 64n - 1n;
    const first = node(5, top, 2, 0, 1, "f", 0, 2, 0, 0, "a", 4, 2, 1, 1, "b", 4);
    const last = node(top, top, 1, 0, 0, 0, 2, 0, 0, 3);
    assert.deepEqual(decode(1, [2], first, last, about(1, 3, 0)).slice(0, -1), [
      ...["begin 2 nodes", "node", `entry 5-${top} f a`, "entry 6-0 f b"],
      ...["node", `entry ${top}-${top} `],
    ]);
  });

  test("have fields and values of any bytes, integers as text", () => {
    const one = node(1, 1, 1, 0, 2, "f", 7, 0, 0, 0, 0, 2, "", -300, 128, "\xff\0", 8);
    assert.equal(decode(1, [1], one, about(1, 1, 0))[2], "entry 1-1  -300 128 \xff\0");
    const compressed = bytes(
      literalLzf(rawId(1, 1)),
      literalLzf(listpack(1, 0, 1, "f", 0, 2, 0, 0, "v", 4)),
    );
    assert.equal(decode(1, [1], compressed, about(1, 1, 0))[2], "entry 1-1 f v");
  });

  test("may all be deleted, or never have been", () => {
    const stream = (more: string) =>
      `stream {"length":0,"statedLength":0,"lastId":"9-9",${more},"groups":0}`;
    assert.deepEqual(decode(1, noEntries(1, 0)), [
      "begin 0 nodes",
      stream('"firstId":"0-0","maxDeletedId":"0-0","entriesAdded":"0","isComplete":false'),
    ]);
    const deleted = node(1, 1, 0, 1, 1, "f", 0, 3, 0, 0, "v", 4);
    assert.deepEqual(decode(2, [1], deleted, about(2, 0, 0)), [
      "begin 1 nodes",
      "node",
      stream('"firstId":"1-1","maxDeletedId":"1-0","entriesAdded":"1","isComplete":true'),
    ]);
  });

  test("are refused where their nodes do not hold what they say", () => {
    const entry: Element[] = [2, 0, 0, "v", 4];
    const wrong: [nodes: Bytes[], message: RegExp][] = [
      [[node(1, 1, 0, 0, 1, "f", 0)], /A stream node without entries/],
      [[node(1, 1, 2, 0, 1, "f", 0, ...entry)], /No integer where one must be/],
      [[node(1, 1, 1, 0, 1, "f", 0, ...entry, 7)], /More entries than stated/],
      [[node(1, 1, 1, 0, 1, "f", 0, 3, 0, 0, "v", 4)], /Wrong counts of a stream node/],
      [[node(1, 1, 0, 1, 1, "f", 0, ...entry)], /Wrong counts of a stream node/],
      [[node(1, 1, 1, 0, 1, "f", 5, ...entry)], /A master entry without its end/],
      [[node(1, 1, 1, 0, 1, "f", 0, 2, 0, 0, "v", 5)], /A wrong size of a stream entry/],
      [[node(1, 1, 1, 0, 1, "f", 0, 4, 0, 0, "v", 4)], /Flags 4 of a stream entry/],
      [[node(1, 1, -1, 2, 1, "f", 0, ...entry)], /A count of -1 in a stream node/],
      [[node(1, 1, "x", 0, 1, "f", 0, ...entry)], /No integer where one must be/],
      [[node(1, 1, 1, 0, 9, "f", 0)], /A stream entry cut off/],
      [[node(1, 1, 1, 0, 0, 0, 0, 0, 0, 1, "f")], /A stream entry cut off/],
      [
        [bytes(string("fifteen bytes.."), string(listpack(1)))],
        /A stream node with a key of 15 bytes/,
      ],
      [[bytes(string(rawId(1, 1)), string("x"))], /No whole header at its byte 0, in the listpack/],
    ];
    for (const [nodes, message] of wrong) {
      refuses(1, [length(nodes.length), ...nodes, about(1, 1, 0)], message);
    }
  });

  test("are refused where ids do not ascend", () => {
    const one = (ms: number, seq: number) => node(ms, seq, 1, 0, 0, 0, 2, 0, 0, 3);
    refuses(1, [[2], one(5, 1), one(5, 1), about(1, 2, 0)], /Stream node 5-1 after 5-1/);
    refuses(1, [[2], one(5, 1), one(4, 9), about(1, 2, 0)], /Stream node 4-9 after 5-1/);
    const same = node(5, 1, 2, 0, 0, 0, 2, 0, 1, 3, 2, 0, 1, 3);
    refuses(1, [[1], same, about(1, 2, 0)], /Stream entry 5-2 after 5-2/);
    const deleted = node(5, 1, 1, 1, 0, 0, 3, 0, 5, 3, 2, 0, 4, 3);
    refuses(1, [[1], deleted, about(1, 1, 0)], /Stream entry 5-5 after 5-6/);
  });

  test("do not take more memory than their bytes: an absurd number of fields is refused", () => {
    const fields = 8_000_000;
    const head = listpack(1, 0, fields).subarray(0, -1);
    const size = head.length + 2 * fields + 1;
    Buffer.from(head.buffer, head.byteOffset).writeUInt32LE(size, 0);
    Buffer.from(head.buffer, head.byteOffset).writeUInt16LE(65535, 4);
    // Each field is the integer 1 and its back-length, which is 1 too.
    const nodes = bytes(
      [1],
      string(rawId(1, 1)),
      lzf(head, { byte: 1, times: 2 * fields }, [0xff]),
    );
    const whole = uncheckedFile("REDIS0009", record(15, nodes, about(1, 1, 0)));
    assert.ok(whole.length < 200_000);
    const limit = {
      code: "LIMIT_EXCEEDED",
      message: /a stream entry of 8000000 fields .* the limit/,
    };
    assert.throws(() => eventsOf(whole), limit);
    assert.equal(eventsOf(whole, { mode: "skip" }).at(-1), "end");
  });
});

suite("groups of a stream", () => {
  const group = (version: Version, name: string, ...rest: readonly Bytes[]) =>
    bytes(string(name), id(5, 1), ...(version === 1 ? [] : [length(7)]), ...rest);
  const consumer = (version: Version, name: string, ...ids: Uint8Array[]) =>
    bytes(string(name), int64(70), ...(version < 3 ? [] : [int64(-1)]), length(ids.length), ...ids);
  const pending = (...ids: Uint8Array[]) =>
    bytes(length(ids.length), ...ids.map((each) => bytes(each, int64(-8), length(3))));
  const released = (version: Version, ...ids: Uint8Array[]) =>
    version < 5 ? [] : [length(ids.length), ...ids];
  const [a, b, c] = [rawId(1, 1), rawId(1, 2), rawId(2n ** 64n - 1n, 0)];

  test("are read with what is pending and with their consumers, in every version", () => {
    for (const version of versions) {
      const first = group(
        version,
        "g",
        pending(a, b, c),
        [2],
        consumer(version, "x", b),
        consumer(version, "y", c, a),
        ...released(version),
      );
      const second = group(version, "h", pending(), [0], ...released(version));
      const events = decode(version, noEntries(version, 2), first, second, ...idle(version));
      const read = version === 1 ? "null" : '"7"';
      const active = version < 3 ? "" : ',"activeMs":"-1"';
      assert.deepEqual(events.slice(2, version < 4 ? undefined : -1), [
        `group {"name":"g","lastId":"5-1","entriesRead":${read},"pending":3}`,
        'pending {"id":"1-1","deliveredAtMs":"-8","deliveries":3}',
        'pending {"id":"1-2","deliveredAtMs":"-8","deliveries":3}',
        'pending {"id":"18446744073709551615-0","deliveredAtMs":"-8","deliveries":3}',
        "consumers 2",
        `consumer {"name":"x","seenMs":"70"${active},"pending":1}`,
        "consumer pending 1-2",
        `consumer {"name":"y","seenMs":"70"${active},"pending":2}`,
        ...["consumer pending 18446744073709551615-0", "consumer pending 1-1"],
        `group {"name":"h","lastId":"5-1","entriesRead":${read},"pending":0}`,
        "consumers 0",
      ]);
    }
  });

  test("have entries that no consumer holds, in version 5", () => {
    const value = group(5, "g", pending(a, b, c), [1], consumer(5, "x", b), ...released(5, c, a));
    const events = decode(5, noEntries(5, 1), value, ...idle(5));
    assert.deepEqual(events.slice(-4, -1), [
      "consumer pending 1-2",
      "released 18446744073709551615-0",
      "released 1-1",
    ]);
  });

  test("are refused where an entry is not pending with exactly one owner", () => {
    const message = /A group whose pending entries are not owned by one consumer each/;
    for (const version of versions) {
      const wrong = [
        group(version, "g", pending(a), [0], ...released(version)),
        group(version, "g", pending(), [1], consumer(version, "x", a), ...released(version)),
        group(version, "g", pending(a), [1], consumer(version, "x", b), ...released(version)),
        group(
          version,
          "g",
          pending(a, b),
          [2],
          consumer(version, "x", a),
          consumer(version, "y", a),
          ...released(version),
        ),
        group(version, "g", pending(a), [1], consumer(version, "x", a, a), ...released(version)),
      ];
      if (version === 5)
        wrong.push(group(5, "g", pending(a), [1], consumer(5, "x", a), ...released(5, a)));
      for (const value of wrong) {
        refuses(version, [noEntries(version, 1), value, ...idle(version)], message);
      }
    }
  });

  test("are refused where two have one name, or two consumers of one", () => {
    const empty = group(3, "g", pending(), [0]);
    refuses(3, [noEntries(3, 2), empty, empty], /A second group "g"/);
    const twice = group(3, "g", pending(), [2], consumer(3, "x"), consumer(3, "x"));
    refuses(3, [noEntries(3, 1), twice], /A second consumer "x"/);
    const others = ["g", "h"].map((name) => group(3, name, pending(), [1], consumer(3, "x")));
    assert.ok(decode(3, noEntries(3, 2), ...others));
  });

  test("of version 1 have as many entries read as a server would assume", () => {
    const one = node(5, 0, 2, 0, 0, 0, 2, 0, 0, 3, 2, 0, 1, 3);
    const cases: [lastId: Uint8Array, read: string][] = [
      [id(0, 0), '"0"'],
      [id(5, 0), '"1"'],
      [id(5, 1), "null"],
      [id(9, 9), '"2"'],
      [id(10, 0), '"2"'],
    ];
    for (const [lastId, read] of cases) {
      const events = decode(1, [1], one, about(1, 2, 1), string("g"), lastId, [0, 0]);
      assert.match(events[5] as string, new RegExp(`"entriesRead":${read},`));
    }
  });
});

suite("idempotent producers of a stream", () => {
  const tail = (version: 4 | 5, ...pieces: readonly Bytes[]) =>
    decode(version, noEntries(version, 0), ...pieces).at(-1);

  test("are read as Redis 8.6 wrote them, once behind all groups", () => {
    const real =
      hex(`4064 4064 02 027031 02 026931 81000001a201e24088 00 026932 81000001a201e24098 00
      027032 01 026939 81000001a201e2409f 00 03 01`);
    for (const version of [4, 5] as const) {
      assert.equal(
        tail(version, real),
        'idempotency {"windowSeconds":100,"maxIds":100,"producers":[{"name":"p1","ids":[{"iid":"i1","id":"1795327934600-0"},{"iid":"i2","id":"1795327934616-0"}]},{"name":"p2","ids":[{"iid":"i9","id":"1795327934623-0"}]}],"added":"3","duplicates":"1"}',
      );
    }
    assert.equal(
      tail(4, hex("4064 4064 00 00 00")),
      'idempotency {"windowSeconds":100,"maxIds":100,"producers":[],"added":"0","duplicates":"0"}',
    );
  });

  test("are refused where a server refuses them", () => {
    const counted = [0, 0, 0];
    const window = /An idempotency window of \d+ s and \d+ ids/;
    for (const [seconds, ids] of [
      [0, 1],
      [86_401, 1],
      [1, 0],
      [1, 10_001],
    ] as const) {
      refuses(4, [noEntries(4, 0), length(seconds), length(ids), counted], window);
    }
    const twice = [length(1), length(1), [2], string("p"), [0], string("p"), [0, 0, 0]];
    refuses(4, [noEntries(4, 0), ...twice], /A second producer "p"/);
  });

  test("do not take memory without bound, nor ever longer as chunks come in", () => {
    const head = bytes(noEntries(4, 0), length(1), length(1), [1], string("p"), length(2 ** 40));
    const endless = bytes("REDIS0013", record(26, head), new Uint8Array(3 * 400_000));
    const limit = { code: "LIMIT_EXCEEDED", message: /the idempotent ids up to byte \d+/ };
    assert.throws(() => eventsOf(endless, { sizes: [1000] }), limit);
  });
});

test("compareIds() orders ids as numbers, and formatId() shows them", () => {
  const half = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const ids = fc.record({ ms: half, seq: half });
  fc.assert(
    fc.property(ids, ids, (a, b) => {
      const [left, right] = [a, b].map(({ ms, seq }) => (ms << 64n) | seq) as [bigint, bigint];
      assert.equal(compareIds(a, b), left < right ? -1 : left > right ? 1 : 0);
      assert.equal(compareIds(a, a), 0);
      assert.equal(formatId(a), `${a.ms}-${a.seq}`);
    }),
  );
});

test("arbitrary nodes are read or refused", () => {
  const element = fc.oneof(
    fc.integer({ min: -3, max: 6 }),
    fc.constantFrom("f", "v"),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  );
  fc.assert(
    fc.property(fc.array(element, { maxLength: 24 }), (elements) => {
      try {
        decode(1, [1], node(1, 1, ...elements), about(1, 1, 0));
      } catch (error) {
        assert(error instanceof Failure, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
