import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Reply, ReplyParser } from "../codec/resp/reply.ts";
import { parseAddress } from "./address.ts";
import {
  type ChooseOptions,
  chooseSource,
  clusterInstances,
  compareInstances,
  type Instance,
  keepKeys,
  type Member,
  parseInfo,
  resumePosition,
  type SlotRange,
  sentinelInstance,
  standaloneInstance,
} from "./instance.ts";

const own = { host: "10.0.0.1", port: 6379 };
const at = (port: number) => ({ host: "10.0.0.2", port });

/** A reply from plain values: arrays, texts, numbers and null. */
type Plain = readonly Plain[] | string | number | null;
function reply(value: Plain): Reply {
  const encode = (item: Plain): string => {
    if (item === null) return "$-1\r\n";
    if (typeof item === "number") return `:${item}\r\n`;
    if (typeof item === "string") return `$${item.length}\r\n${item}\r\n`;
    return `*${item.length}\r\n${item.map(encode).join("")}`;
  };
  const parser = new ReplyParser();
  parser.push(Buffer.from(encode(value)));
  return parser.next() as Reply;
}

suite("standaloneInstance()", () => {
  const members = (...lines: string[]) =>
    standaloneInstance(parseInfo(`# Replication\r\n${lines.join("\r\n")}\r\n`), own).members;

  test("takes a master's replicas, but for recorders, which have no port", () => {
    const found = members(
      "role:master",
      "connected_slaves:4",
      "slave0:ip=10.0.0.2,port=1,state=online,offset=70,lag=1",
      "slave1:ip=10.0.0.2,port=0,state=online,offset=70,lag=0,type=replica",
      "slave2:ip=10.0.0.2,port=2,state=wait_bgsave,offset=0,lag=0",
      "slave3:ip=fe80::1,port=3,state=online,offset=9,lag=60",
      "master_repl_offset:71",
    );
    assert.deepEqual(found, [
      { endpoint: own, role: "master", isUp: true, offset: 71 },
      { endpoint: at(1), role: "replica", isUp: true, offset: 70 },
      { endpoint: at(2), role: "replica", isUp: false, offset: 0 },
      { endpoint: { host: "fe80::1", port: 3 }, role: "replica", isUp: false, offset: 9 },
    ]);
  });

  test("takes a replica for one, and its master", () => {
    const lines = ["role:slave", "master_host:10.0.0.2", "master_port:5", "master_repl_offset:7"];
    const master: Member = { endpoint: at(5), role: "master", isUp: true };
    for (const [status, isUp] of [
      ["up", true],
      ["down", false],
    ] as const) {
      const self: Member = { endpoint: own, role: "replica", isUp, offset: 7 };
      assert.deepEqual(members(...lines, `master_link_status:${status}`), [master, self]);
    }
  });
});

suite("sentinelInstance()", () => {
  const replica = (port: string, flags: string, status: string) => [
    ...["name", "x", "ip", "10.0.0.2", "port", port, "flags", flags],
    ...["master-link-status", status, "slave-repl-offset", "5"],
  ];

  test("takes the master, and of the replicas whether they are up", () => {
    const replicas = [
      replica("1", "slave", "ok"),
      replica("2", "s_down,slave,disconnected", "ok"),
      replica("3", "slave", "err"),
      replica("0", "s_down,slave", "err"),
    ];
    const instance = sentinelInstance("m", reply(["10.0.0.1", "6379"]), reply(replicas));
    assert.equal(instance.key, "m");
    assert.deepEqual(instance.members, [
      { endpoint: own, role: "master", isUp: true },
      { endpoint: at(1), role: "replica", isUp: true, offset: 5 },
      { endpoint: at(2), role: "replica", isUp: false, offset: 5 },
      { endpoint: at(3), role: "replica", isUp: false, offset: 5 },
    ]);
  });

  test("refuses a name that the Sentinel does not know, and an address that is none", () => {
    const none = reply([]);
    assert.throws(() => sentinelInstance("m", reply(null), none), { code: "USAGE" });
    assert.throws(() => sentinelInstance("m", reply(["", "x"]), none), { code: "PROTOCOL_ERROR" });
    assert.throws(() => sentinelInstance("m", reply("x"), none), { code: "PROTOCOL_ERROR" });
  });
});

test("clusterInstances() joins the ranges of a shard, and reads a node without an address as the one that was asked", () => {
  const node = (host: string | null, port: number, id: string) => [host, port, id, []];
  const slots = reply([
    [0, 99, node("10.0.0.2", 1, "a"), node("10.0.0.2", 2, "a1")],
    [100, 199, node("", 3, "b"), node(null, 4, "b1"), node("?", 5, "b2")],
    [200, 200, node("10.0.0.2", 1, "a"), node("10.0.0.2", 2, "a1")],
  ]);
  const asked = (port: number) => ({ host: "10.0.0.1", port });
  assert.deepEqual(clusterInstances(slots, own), [
    {
      key: "a",
      nodes: ["a", "a1"],
      slots: [
        [0, 99],
        [200, 200],
      ],
      members: [
        { endpoint: at(1), role: "master", isUp: true },
        { endpoint: at(2), role: "replica", isUp: true },
      ],
    },
    {
      key: "b",
      nodes: ["b", "b1", "b2"],
      slots: [[100, 199]],
      members: [
        { endpoint: asked(3), role: "master", isUp: true },
        { endpoint: asked(4), role: "replica", isUp: true },
        { endpoint: asked(5), role: "replica", isUp: true },
      ],
    },
  ]);
  assert.deepEqual(clusterInstances(reply([]), own), []);
  assert.throws(() => clusterInstances(reply([["x"], 3]), own), { code: "PROTOCOL_ERROR" });
});

suite("keepKeys()", () => {
  const shard = (key: string, nodes: string, ...slots: SlotRange[]): Instance => ({
    ...{ key, nodes: nodes.split(" "), slots, members: [] },
  });
  const before = [shard("A", "a a1", [0, 99]), shard("B", "b b1", [100, 199])];
  const cases: [what: string, after: Instance[], keys: string[]][] = [
    ["nothing changed", [shard("b", "b b1", [100, 199]), shard("a", "a a1", [0, 99])], ["B", "A"]],
    ["slots moved", [shard("a", "a a1", [0, 9]), shard("b", "b b1", [10, 199])], ["A", "B"]],
    [
      "a replica was promoted",
      [shard("a1", "a1 a", [0, 99]), shard("b", "b", [100, 199])],
      ["A", "B"],
    ],
    ["its old master is gone", [shard("a1", "a1", [0, 99])], ["A"]],
    [
      "replicas changed places",
      [shard("a", "a b1", [0, 99]), shard("b", "b a1", [100, 199])],
      ["A", "B"],
    ],
    [
      "a migrated replica took over",
      [shard("b1", "b1 a", [0, 99]), shard("b", "b", [100, 199])],
      ["A", "B"],
    ],
    [
      "new nodes have its slots",
      [shard("x", "x y", [0, 98]), shard("b", "b b1", [99, 199])],
      ["A", "B"],
    ],
    [
      "a shard is new",
      [shard("a", "a a1", [0, 49]), shard("c", "c", [50, 99]), shard("b", "b b1", [100, 199])],
      ["A", "c", "B"],
    ],
  ];
  for (const [what, after, keys] of cases) {
    test(`keeps them when ${what}`, () => {
      assert.deepEqual(
        keepKeys(before, after).map(({ key }) => key),
        keys,
      );
    });
  }

  test("never gives two shards the same", () => {
    const [first] = keepKeys([], [shard("a", "a a1", [0, 99])]);
    assert.ok(first);
    // Its replica took the shard over, and the old master has a few slots of its own.
    const after = keepKeys([first], [shard("a1", "a1", [0, 89]), shard("a", "a", [90, 99])]);
    assert.equal(new Set(after.map(({ key }) => key)).size, 2);
  });
});

test("compareInstances() says what is new, and nothing where nothing is", () => {
  const member = (port: number, role: Member["role"], offset = 0): Member => {
    return { endpoint: at(port), role, isUp: true, offset };
  };
  const base: Instance = {
    key: "A",
    members: [member(1, "master"), member(2, "replica")],
    slots: [[0, 9]],
  };
  const gone: Instance = { key: "B", members: [] };
  const same = { ...base, members: [member(1, "master", 9), member(2, "replica", 7)] };
  const after = {
    ...base,
    members: [member(2, "master")],
    slots: [
      [0, 5],
      [7, 8],
    ] as const,
  };
  assert.deepEqual(compareInstances([base], [same]), []);
  assert.deepEqual(compareInstances([base, gone], [after, { key: "C", members: [] }]), [
    "A: the master is 10.0.0.2:2, and was 10.0.0.2:1",
    "A: the replicas are none",
    "A: the slots are 0-5, 7-8",
    "C appeared",
    "B is gone",
  ]);
});

suite("chooseSource()", () => {
  const master: Member = { endpoint: at(1), role: "master", isUp: true };
  const up = (port: number, offset?: number): Member => {
    return { endpoint: at(port), role: "replica", isUp: true, offset };
  };
  const down = (port: number): Member => ({ endpoint: at(port), role: "replica", isUp: false });
  const avoid = (...ports: number[]) => ({
    avoid: new Set(ports.map((port) => `10.0.0.2:${port}`)),
  });

  const cases: [members: Member[], options: ChooseOptions, port: number, why: RegExp][] = [
    [[master], {}, 1, /no replicas/],
    [[master, up(2)], {}, 2, /replicas are preferred/],
    [[master, up(2, 5), up(3, 9)], {}, 3, /furthest ahead/],
    [[master, up(3), up(2)], {}, 2, /furthest ahead/],
    [[master, up(2, 5), up(3, 9)], { current: at(2) }, 2, /that is followed is up/],
    [[master, down(2), up(3, 9)], { current: at(2) }, 3, /furthest ahead/],
    [[master, up(2)], { current: at(1) }, 2, /replicas are preferred/],
    [[master, up(2), up(3)], avoid(2), 3, /furthest ahead/],
    [[master, up(2)], avoid(2), 1, /none of its replicas is up/],
    [[master, down(2)], {}, 1, /none of its replicas is up/],
    [[master, up(2)], { prefer: "master" }, 1, /asked for/],
    [[master, up(2)], { prefer: "master", current: at(2) }, 1, /asked for/],
    [[up(2)], {}, 2, /replicas are preferred/],
  ];
  for (const [members, options, port, why] of cases) {
    const shape = members.map(({ role, isUp }) => (isUp ? role : `${role} down`)).join(", ");
    test(`takes ${port} of ${shape} when ${JSON.stringify({ ...options, ...(options.avoid && { avoid: [...options.avoid] }) })}`, () => {
      const choice = chooseSource({ key: "A", members }, options);
      assert.deepEqual(choice.endpoint, at(port));
      assert.equal(choice.role, port === 1 ? "master" : "replica");
      assert.match(choice.why, why);
    });
  }

  test("fails where there is nobody, to be tried again", () => {
    const none: [Member[], ChooseOptions][] = [
      [[], {}],
      [[down(2)], {}],
      [[master], avoid(1)],
      [[up(2)], { prefer: "master" }],
    ];
    for (const [members, options] of none) {
      const instance = { key: "A", members };
      assert.throws(() => chooseSource(instance, options), { code: "SERVER_BUSY" });
    }
  });

  test("knows a socket and an address without a login as the same endpoint again", () => {
    const address = parseAddress("unix:///run/s");
    assert.ok(address.kind === "server");
    const member: Member = { endpoint: address.endpoint, role: "replica", isUp: true };
    const instance = { key: "A", members: [up(2, 99), member] };
    const choice = chooseSource(instance, { current: { path: "/run/s" } });
    assert.deepEqual(choice.endpoint, { path: "/run/s" });
  });
});

suite("resumePosition()", () => {
  const [old, other] = ["a".repeat(40), "b".repeat(40)];
  const info = parseInfo(
    `master_replid:${other}\r\nmaster_replid2:${old}\r\nsecond_repl_offset:101\r\n`,
  );
  const none = parseInfo(`master_replid2:${"0".repeat(40)}\r\nsecond_repl_offset:-1\r\n`);
  const cases: [what: string, id: string, offset: number, changed: number, asked: number][] = [
    ["is behind", old, 90, 90, 90],
    ["is where the new history begins", old, 100, 100, 100],
    ["is ahead by nothing that counts", old, 128, 100, 100],
    ["is ahead by a write: that is lost, and must be noticed", old, 128, 101, 128],
    ["has the new history already", other, 128, 50, 128],
  ];
  for (const [what, replicationId, offset, changed, asked] of cases) {
    test(`asks from ${asked} where the recorder ${what}`, () => {
      const position = resumePosition(info, { replicationId, offset }, changed);
      assert.deepEqual(position, { replicationId, offset: asked });
    });
  }

  test("changes nothing where there was no promotion", () => {
    const position = { replicationId: "0".repeat(40), offset: 5 };
    assert.equal(resumePosition(none, position, 0), position);
  });
});
