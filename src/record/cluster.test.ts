import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { until } from "../../test/link/until.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { systemClock } from "../base/clock.ts";
import { Failure } from "../base/errors.ts";
import type { Instance, SlotRange } from "../link/instance.ts";
import { systemDisk } from "../log/disk.ts";
import {
  type ClusterEvent,
  ClusterRecorder,
  type Companion,
  type RecordedShard,
} from "./cluster.ts";
import { ClusterFile, parseOwnershipChange } from "./cluster-file.ts";
import { describeCluster } from "./status.ts";

/** A shard of which nobody can be reached. */
function shard(key: string, ...slots: SlotRange[]): Instance {
  const endpoint = { path: `/nowhere/${key}` };
  return { key, nodes: [key], slots, members: [{ endpoint, role: "master", isUp: true }] };
}

const whole = [shard("a", [0, 8191]), shard("b", [8192, 16_383])];

/** A recorder of a cluster whose topology can be changed. */
class World implements AsyncDisposable {
  readonly #folder = temporaryFolder();
  readonly path: string;
  readonly #stop = new AbortController();
  readonly events: ClusterEvent[] = [];
  instances: readonly Instance[] | Failure = whole;
  running: Promise<void> = Promise.resolve();

  constructor(path?: string) {
    this.path = path ?? this.#folder.path;
  }

  async start(
    goneMs?: number,
    alongside?: (shard: RecordedShard) => Companion,
  ): Promise<ClusterRecorder> {
    const read = async () => {
      if (this.instances instanceof Failure) throw this.instances;
      return this.instances;
    };
    const cluster = new ClusterRecorder({
      ...{ folder: this.path, file: await ClusterFile.open(systemDisk, this.path), connect: {} },
      topology: { kind: "cluster", intervalMs: 5, read },
      ...{ fsync: "everysec", segmentBytes: 2 ** 20, clock: systemClock, disk: systemDisk },
      onEvent: (event) => this.events.push(event),
      ...(goneMs !== undefined && { goneMs }),
      ...(alongside !== undefined && { alongside }),
    });
    this.running = cluster.run(this.#stop.signal);
    return cluster;
  }

  get changes() {
    const path = join(this.path, "slots.jsonl");
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    return lines.map((line) => parseOwnershipChange(line, path));
  }

  get remembered(): string {
    const path = join(this.path, "cluster.json");
    if (!existsSync(path)) return "";
    const { shards } = JSON.parse(readFileSync(path, "utf8")) as {
      shards: { key: string; isGone: boolean }[];
    };
    return shards.map(({ key, isGone }) => `${key}${isGone ? " gone" : ""}`).join(", ");
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.running.catch(() => {});
    this.#folder[Symbol.dispose]();
  }
}

suite("ClusterRecorder", () => {
  test("begins with each shard, and remembers them and their slots", async () => {
    await using world = new World();
    const cluster = await world.start();
    await until("it is remembered", async () => world.remembered === "a, b");
    const [first, ...more] = world.changes;
    assert.deepEqual([first?.windowMs, more.length], [null, 0]);
    assert.deepEqual(
      first?.shards.map(({ key, slots, position }) => [key, slots, position]),
      whole.map(({ key, slots }) => [key, slots, null]),
    );
    await until("the spools are open", async () => cluster.shards.every(({ running }) => running));
    assert.ok(existsSync(join(world.path, "shards/a/spool.lock")));
    assert.deepEqual(
      describeCluster(cluster).shards.map(({ slots, status }) => [slots, status?.gaps.length]),
      [
        ["0-8191", 0],
        ["8192-16383", 0],
      ],
    );
    await world.stop();
    assert.equal(cluster.shards.length, 2);
  });

  test("begins with a shard that is new, and lets one go that stays away, but not its spool", async () => {
    await using world = new World();
    const cluster = await world.start(50);
    await until("it is remembered", async () => world.remembered === "a, b");
    world.instances = [shard("a", [0, 8191]), shard("c", [8192, 16_383])];
    await until("the change is noted", async () => world.remembered === "a, c, b gone");
    assert.deepEqual(
      cluster.shards.map(({ key }) => key),
      ["a", "c"],
    );
    const [, second] = world.changes;
    assert.ok(second?.windowMs !== null && (second?.windowMs ?? 1e9) < 5000);
    assert.deepEqual(
      second?.shards.map(({ key }) => key),
      ["a", "c"],
    );
    assert.ok(existsSync(join(world.path, "shards/b")));
    world.instances = whole;
    await until(
      "it is back",
      async () => world.remembered === "a, c, b" || world.remembered === "a, b, c gone",
    );
  });

  test("a shard that is gone stays until what runs alongside has let it go", async () => {
    await using world = new World();
    const told: string[] = [];
    const mayGo = Promise.withResolvers<void>();
    const cluster = await world.start(20, ({ key, spool }) => ({
      run: async (signal) => {
        told.push(`${key} begins`);
        if (!signal.aborted) await new Promise((done) => signal.addEventListener("abort", done));
        told.push(`${key} ends`);
      },
      letGo: async () => {
        told.push(`${key} is let go`);
        await mayGo.promise;
      },
      finish: async () => {
        told.push(`${key} finishes, ${spool.state.kind}`);
      },
    }));
    await until("it is remembered", async () => world.remembered === "a, b");
    world.instances = [shard("a", [0, 16_383])];
    await until("it is being let go", async () => told.includes("b is let go"));
    world.instances = [shard("a", [0, 16_382])];
    await until("it is noted", async () => world.changes.length === 3);
    assert.equal(world.remembered, "a, b", "a restart would go on with it");
    assert.equal(describeCluster(cluster).shards[1]?.isGone, true);
    mayGo.resolve();
    await until("it is gone", async () => world.remembered === "a, b gone");
    await world.stop();
    const ofB = ["b begins", "b is let go", "b finishes, empty", "b ends"];
    assert.deepEqual(
      told.filter((each) => each.startsWith("b")),
      ofB,
    );
    assert.deepEqual(
      told.filter((each) => each.startsWith("a")),
      ["a begins", "a finishes, empty", "a ends"],
    );
  });

  test("a shard that comes back while it is being let go is recorded again at once", async () => {
    await using world = new World();
    let begun = 0;
    let letGo = 0;
    await world.start(20, ({ key }) => ({
      run: async () => {
        if (key === "b") begun++;
      },
      letGo: async (signal) => {
        letGo++;
        await new Promise((done) => signal.addEventListener("abort", done));
      },
      finish: async () => {},
    }));
    await until("it is remembered", async () => world.remembered === "a, b");
    world.instances = [shard("a", [0, 16_383])];
    await until("it is being let go", async () => letGo === 1);
    world.instances = whole;
    await until("it is recorded again", async () => begun === 2);
    assert.ok(world.events.every(({ kind }) => kind !== "shard gone"));
    assert.equal(world.remembered, "a, b");
  });

  test("does not let a shard go that is missed for a moment", async () => {
    await using world = new World();
    const cluster = await world.start(60_000);
    await until("it is remembered", async () => world.remembered === "a, b");
    const before = cluster.shards;
    world.instances = [shard("a", [0, 8191])];
    await until("it is missed", async () => cluster.shards[1]?.goneSinceMs !== undefined);
    assert.equal(describeCluster(cluster).shards[1]?.isGone, true);
    world.instances = whole;
    await until("it is back", async () => cluster.shards[1]?.goneSinceMs === undefined);
    assert.deepEqual(cluster.shards, before);
  });

  test("goes on with the shards that it knows while nobody says how they are", async () => {
    await using world = new World();
    await world.start();
    await until("it is remembered", async () => world.remembered === "a, b");
    await world.stop();
    await using second = new World(world.path);
    second.instances = new Failure("SERVER_UNREACHABLE", "Nobody");
    const cluster = await second.start();
    await until("the spools are open", async () => cluster.shards.every(({ running }) => running));
    assert.deepEqual(
      cluster.shards.map(({ key }) => key),
      ["a", "b"],
    );
    assert.ok(second.events.some(({ kind }) => kind === "topology unknown"));
    second.instances = whole;
    assert.equal(second.changes.length, 1, "the slots are as they were");
    await second.stop();
    await using third = new World();
    third.instances = new Failure("SERVER_UNREACHABLE", "Nobody");
    await third.start();
    await assert.rejects(third.running, { message: "Nobody" }, "there nothing is known");
  });

  test("a shard that cannot be recorded stops no other", async () => {
    await using world = new World();
    await using _taken = await systemDisk.lock(join(world.path, "shards/a"), "somebody");
    const cluster = await world.start();
    const failed = await until("one has failed", async () => {
      return world.events.find((event) => event.kind === "shard failed");
    });
    assert.equal("shard" in failed && failed.shard, "a");
    await until("the other one runs", async () => cluster.shards[1]?.running !== undefined);
    assert.match(describeCluster(cluster).shards[0]?.trouble ?? "", /somebody/);
    await world.stop();
  });

  test("ends where nothing can be recorded at all, and where the topology is no cluster's", async () => {
    await using world = new World();
    await using _a = await systemDisk.lock(join(world.path, "shards/a"), "somebody");
    await using _b = await systemDisk.lock(join(world.path, "shards/b"), "somebody");
    await world.start();
    await assert.rejects(world.running, { code: "FILE_EXISTS" });
    await using hostile = new World();
    hostile.instances = [shard("../../etc", [0, 16_383])];
    await hostile.start();
    await assert.rejects(hostile.running, { code: "PROTOCOL_ERROR" });
    assert.ok(!existsSync(join(hostile.path, "shards")));
  });
});
