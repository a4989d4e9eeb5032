/** A cluster in `tidemark up`, as its users run it: recorded, archived and backed up, whatever happens. */
import assert from "node:assert/strict";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { listSlots, readSlots, type SlotsChange } from "../../src/archive/cluster-slots.ts";
import { systemClock } from "../../src/base/clock.ts";
import { findConfig } from "../../src/daemon/config.ts";
import { type UpEvent, up } from "../../src/daemon/up.ts";
import { parseOwnershipChange } from "../../src/record/cluster-file.ts";
import { DirectoryStore } from "../../src/store/directory.ts";
import { Daemon } from "../cli/daemon.ts";
import { type Outcome, tidemark } from "../cli/tidemark.ts";
import { until } from "../link/until.ts";
import { ClusterNodes, type Node } from "../record/cluster-nodes.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, type ServerId, startServer } from "../support/servers.ts";

const tags = Array.from({ length: 30 }, (_, i) => `{t${i}}`);
const dayMs = 86_400_000;

/** A folder with a configuration of one cluster, "shop", and its repository. */
class Shop {
  readonly folder: string;
  readonly config: string;
  readonly repository: string;

  constructor(folder: string, source: string) {
    this.folder = folder;
    this.config = join(folder, "tidemark.yaml");
    this.repository = join(folder, "repository");
    const lines = [
      "repositories: {main: {address: ./repository}}",
      "instances:",
      `  shop: {source: "${source}", archive_interval: 1s, backup: {time_zone: UTC, jitter: 0s}}`,
    ];
    writeFileSync(this.config, `${lines.join("\n")}\n`);
  }

  run(...args: string[]): Promise<Outcome> {
    return tidemark(...args, "--config", this.config);
  }

  /** What a command prints as JSON. Throws what it says where it fails. */
  async json(...args: string[]) {
    const { status, stdout, stderr } = await this.run(...args, "--json");
    if (status !== 0) throw new Error(`${args.join(" ")}: status ${status}: ${stdout}${stderr}`);
    return JSON.parse(stdout);
  }

  /** Waits until `tidemark status` says that it is so. */
  until(what: string, isSo: (status: Status) => boolean): Promise<Status> {
    return until(what, async () => {
      const status: Status = await this.json("status");
      return isSo(status) && status;
    });
  }

  get noted(): SlotsChange[] {
    const text = readFileSync(join(this.folder, "spool/shop/slots.jsonl"), "utf8");
    const lines = text.trimEnd().split("\n");
    return lines.map((line) => parseOwnershipChange(line, "slots.jsonl"));
  }

  /** What the repository has of the slots. */
  async stored(): Promise<SlotsChange[]> {
    const store = new DirectoryStore(this.repository);
    const names = await listSlots(store, "shop");
    return await Promise.all(names.map((name) => readSlots(store, name)));
  }

  async isAllStored(least: number): Promise<boolean> {
    return this.noted.length >= least && (await this.stored()).length === this.noted.length;
  }
}

type Span = { readonly fromMs: number; readonly toMs: number };
type Status = {
  readonly instances: readonly {
    readonly instance: string;
    readonly windows: readonly Span[];
    readonly live: null | {
      readonly gaps: readonly unknown[];
      readonly archive: { readonly state: string; readonly shippedOffset: number | null };
    };
  }[];
  readonly clusters: readonly [
    {
      readonly isRunning: boolean;
      readonly windows: readonly Span[];
      readonly slots: { readonly trouble: string | null };
      readonly shards: readonly { readonly instance: string; readonly slots: string }[];
    },
  ];
};

function isArchiving({ instances }: Status): boolean {
  const states = instances.map(({ live }) => live?.archive.state);
  return states.length === 3 && states.every((state) => state === "archiving");
}

/** Writes to all tags, on and on, until it is told to stop. */
async function write(cluster: ClusterNodes, signal: AbortSignal): Promise<void> {
  for (let i = 0; !signal.aborted; i++) {
    const tag = tags[i % tags.length] as string;
    await cluster.call("SET", `${tag}:${i % 300}`, `v${i}`);
    await cluster.call("RPUSH", `${tag}:list`, `v${i}`);
    if (i % 10 === 0) await sleep(2);
  }
}

/** So many slots with keys, of those that a node owns. */
async function someOf(cluster: ClusterNodes, node: Node, count: number): Promise<number[]> {
  const own = new Set<number>();
  for (const tag of tags) {
    const slot = Number(await node.server.call("CLUSTER", "KEYSLOT", tag));
    if (own.size < count && (await cluster.owner(slot)) === node) own.add(slot);
  }
  assert.equal(own.size, count);
  return [...own];
}

/** What a stock server has that starts on what was restored. */
async function digestOf(id: ServerId, dir: string): Promise<string> {
  const conf = { appendonly: "yes", "aof-load-truncated": "no" };
  await using server = await startServer(id, { dir, conf });
  return await server.debugDigest();
}

suite("A cluster in `tidemark up`", { concurrency: 2 }, () => {
  for (const id of ["redis-8.0", "valkey-9"] as const) {
    test(`${id}: each shard is archived without a hole, and who had which slots, whatever happens`, {
      skip: missingServers(id),
    }, async () => {
      using folder = temporaryFolder();
      await using cluster = await ClusterNodes.start(id, 3);
      const masters = cluster.nodes.slice(0, 3) as [Node, Node, Node];
      const [a, b, c] = masters;
      const shop = new Shop(folder.path, `cluster://127.0.0.1:${a.port},127.0.0.1:${b.port}`);
      assert.equal((await tidemark("init", shop.repository)).status, 0);
      const stop = new AbortController();
      const writing = write(cluster, stop.signal);
      await using stack = new AsyncDisposableStack();
      try {
        await using first = new Daemon(shop.config);
        await shop.until("all shards have a set and a log", (status) => {
          return isArchiving(status) && status.clusters[0].windows.length === 1;
        });
        await cluster.move(await someOf(cluster, a, 2), a, b);
        await checkSetsByHand(shop, masters);
        await until("the change is stored", () => shop.isAllStored(2));

        renameSync(shop.repository, `${shop.repository}.away`);
        writeFileSync(shop.repository, "");
        await cluster.move(await someOf(cluster, b, 1), b, c);
        await until("the change is noted", async () => shop.noted.length >= 3);
        await first.told("slots failed");
        rmSync(shop.repository);
        renameSync(`${shop.repository}.away`, shop.repository);
        await until("the change is stored", () => shop.isAllStored(3));
        await first.stop("SIGKILL");

        await cluster.move(await someOf(cluster, c, 1), c, a);
        const second = stack.use(new Daemon(shop.config));
        await second.told("archive begins");
        await until("the change is stored", () => shop.isAllStored(4));
        await shop.until("it archives again", isArchiving);
        stop.abort();
        await writing;
        await checkArchive(shop, id, masters);

        const began = performance.now();
        await second.stop("SIGTERM");
        assert.ok(performance.now() - began < 5000, "it ends at once");
        assert.equal((await second.told("down"))["event"], "down");
      } finally {
        stop.abort();
        await writing;
      }
      const sets: { instance: string }[] = await shop.json("backup", "shop", "--note", "no daemon");
      assert.deepEqual(sets.map(({ instance }) => instance).toSorted(), namesOf(masters));
      assert.deepEqual(await shop.stored(), shop.noted, "it was noted who has which slots");
      await checkAutomaticSets(shop, masters);
    });
  }

  test("a spool of a cluster is none of a server, and the other way round", {
    skip: missingServers("redis-8.0"),
  }, async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", {
      conf: { "repl-diskless-sync-delay": 0 },
    });
    const shop = new Shop(folder.path, `unix://${server.socketPath}`);
    await tidemark("init", shop.repository);
    await shop.json("backup", "shop");
    {
      await using daemon = new Daemon(shop.config);
      await daemon.told("archive verified");
    }
    const other = new Shop(folder.path, "cluster://127.0.0.1:1");
    {
      await using daemon = new Daemon(other.config);
      const { failure } = await daemon.told("instance failed");
      assert.match(JSON.stringify(failure), /it is the spool of one server/);
    }
    writeFileSync(join(folder.path, "spool/shop/cluster.json"), '{"format":1,"shards":[]}');
    const again = new Shop(folder.path, `unix://${server.socketPath}`);
    await using daemon = new Daemon(again.config);
    const { failure } = await daemon.told("instance failed");
    assert.match(JSON.stringify(failure), /it has the spools of a cluster/);
  });
});

function namesOf(masters: readonly Node[]): string[] {
  return masters.map(({ id }) => `shop.${id}`).toSorted();
}

async function checkSetsByHand(shop: Shop, masters: readonly Node[]): Promise<void> {
  // Whichever comes second is told that one runs.
  const both = await Promise.all([
    shop.run("backup", "shop", "--note", "by hand", "--keep", "--json"),
    shop.run("backup", "shop", "--note", "by hand", "--keep", "--json"),
  ]);
  const [good, busy] = both.toSorted((x, y) => (x.status ?? 0) - (y.status ?? 0));
  assert.deepEqual([good?.status, busy?.status], [0, 75], good?.stderr);
  assert.match(busy?.stderr ?? "", /sets of shop: they are being taken since/);
  const sets: { instance: string; kind: string; note: string }[] = JSON.parse(good?.stdout ?? "");
  assert.deepEqual(sets.map(({ instance }) => instance).toSorted(), namesOf(masters));
  assert.ok(sets.every(({ kind, note }) => kind === "manual" && note === "by hand"));
  const one = await shop.json("backup", `shop.${masters[1]?.id}`);
  assert.equal(one.instance, `shop.${masters[1]?.id}`);
}

/** All of it: the logs, the windows, the slots, and what comes back. */
async function checkArchive(
  shop: Shop,
  id: ServerId,
  masters: readonly [Node, Node, Node],
): Promise<void> {
  const wanted = await Promise.all(masters.map(({ server }) => server.replicationOffset()));
  const status = await shop.until("all is archived", ({ instances }) => {
    return masters.every((master, i) => {
      const shard = instances.find(({ instance }) => instance === `shop.${master.id}`);
      return (shard?.live?.archive.shippedOffset ?? 0) >= (wanted[i] as number);
    });
  });
  const [cluster] = status.clusters;
  assert.deepEqual(cluster.shards.map(({ instance }) => instance).toSorted(), namesOf(masters));
  assert.equal(countSlots(cluster.shards.map(({ slots }) => slots)), 16_384);
  assert.equal(cluster.windows.length, 1, "all shards have all of it in common");
  for (const { windows, live } of status.instances) {
    assert.equal(windows.length, 1);
    assert.deepEqual(live?.gaps, []);
  }
  assert.deepEqual(await shop.stored(), shop.noted);
  const { isSound, instances, clusters } = await shop.json("verify", "--all");
  assert.ok(isSound);
  assert.deepEqual(clusters, [{ cluster: "shop", changes: shop.noted.length, findings: [] }]);
  for (const { log } of instances) assert.deepEqual([log.holes, log.findings], [[], []]);
  for (const [index, { id: key, server }] of masters.entries()) {
    const to = join(shop.folder, `restored-${index}`);
    await shop.json("restore", `shop.${key}`, "--at", "latest", "--to-dir", to);
    assert.equal(await digestOf(id, to), await server.debugDigest(), `shard ${index}`);
  }
  await checkWords(shop, masters);
}

/** What people read. */
async function checkWords(shop: Shop, masters: readonly Node[]): Promise<void> {
  const shown = (await shop.run("status", "shop")).stdout;
  assert.match(shown, /^shop, a cluster\n.*\n.*3 shards, 3 recorded and 3 archived now\n/);
  const listed = (await shop.run("backups", "shop")).stdout;
  const plan = (await shop.run("expire", "shop")).stdout;
  for (const { id } of masters) {
    assert.match(shown, new RegExp(` {2}shop\\.${id}\n {4}slots +\\d`));
    assert.match(listed, new RegExp(`^shop\\.${id}$`, "m"));
    assert.match(plan, new RegExp(`^shop\\.${id}$`, "m"));
  }
  assert.match(plan, /Nothing goes/);
  assert.match((await shop.run("expire")).stdout, /Nothing goes/, "shards are configured");
  const wrong = await shop.run("status", "shopp");
  assert.match(wrong.stderr, /Did you mean shop\?/);
  const byAddress = await tidemark("status", "shop", "--repo", shop.repository);
  assert.match(byAddress.stdout, /^shop, a cluster\n.*\n.*3 shards, no `tidemark up` runs here/);
}

function countSlots(slots: readonly string[]): number {
  const ranges = slots.flatMap((each) => each.split(", "));
  return ranges.reduce((sum, range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return sum + last - first + 1;
  }, 0);
}

/** As if the machine had been off for a day: a set of each shard is due. They take turns. */
async function checkAutomaticSets(shop: Shop, masters: readonly Node[]): Promise<void> {
  const config = findConfig(shop.config);
  assert.ok(config !== undefined);
  const stop = new AbortController();
  const told: string[] = [];
  const onEvent = (event: UpEvent) => {
    if (event.kind !== "event" || !("shard" in event.event)) return;
    const { kind, shard } = event.event;
    if (kind === "set begins" || kind === "set taken") told.push(`${kind} ${shard}`);
  };
  const clock = { now: () => systemClock.now() + dayMs };
  const running = up(config, { onEvent, clock }, stop.signal);
  try {
    await until("all sets are taken", async () => told.length === 6);
  } finally {
    stop.abort();
    await running;
  }
  const order = told.flatMap((each) => (each.startsWith("set begins ") ? [each.slice(11)] : []));
  assert.deepEqual(
    told,
    order.flatMap((shard) => [`set begins ${shard}`, `set taken ${shard}`]),
  );
  assert.deepEqual(order.toSorted(), masters.map((master) => master.id).toSorted());
}
