import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { Lease } from "../../src/archive/lease.ts";
import { initRepository } from "../../src/archive/repository.ts";
import { systemClock } from "../../src/base/clock.ts";
import { type Config, parseConfig } from "../../src/daemon/config.ts";
import { askDaemon } from "../../src/daemon/control.ts";
import { type UpEvent, up } from "../../src/daemon/up.ts";
import { askStatus } from "../../src/record/status.ts";
import { openStore } from "../../src/store/open.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, startServer } from "../support/servers.ts";

const skip = missingServers("redis-8.0");
const conf = { "repl-diskless-sync-delay": 0 };

/** `up()` with what it tells. */
class Running implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  readonly events: UpEvent[] = [];
  #heard = Promise.withResolvers<void>();

  constructor(config: Config, nowMs: () => number = () => systemClock.now()) {
    const onEvent = (event: UpEvent) => {
      this.events.push(event);
      this.#heard.resolve();
      this.#heard = Promise.withResolvers();
    };
    this.#ended = up(config, { onEvent, clock: { now: nowMs } }, this.#stop.signal);
  }

  /** Resolves when an instance has told of this. */
  async told(instance: string, kind: string): Promise<UpEvent> {
    for (;;) {
      const found = this.events.find((event) => {
        if (event.kind === "instance failed")
          return event.instance === instance && kind === event.kind;
        if (event.kind !== "event" || event.instance !== instance) return false;
        const own = event.event;
        return (own.kind === "archiver" ? `archive ${own.event.kind}` : own.kind) === kind;
      });
      if (found !== undefined) return found;
      await this.#heard.promise;
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

function configOf(folder: string, instances: Readonly<Record<string, string>>, more = ""): Config {
  const text = [
    "repositories: {main: {address: repository}}",
    "instances:",
    ...Object.entries(instances).map(
      ([name, source]) => `  ${name}: {source: "${source}", archive_interval: 1s${more}}`,
    ),
  ];
  return parseConfig(text.join("\n"), join(folder, "tidemark.yaml"));
}

suite("up()", { skip }, () => {
  test("one instance's trouble stops no other", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const config = configOf(folder.path, {
      away: `unix://${join(folder.path, "nobody")}`,
      db1: `unix://${server.socketPath}`,
    });
    await using store = await openStore(join(folder.path, "repository"));
    await initRepository(store);
    await using running = new Running(config);
    await running.told("away", "lost");
    await running.told("db1", "archive verified");
  });

  test("it records while there is no repository, and archives once there is one", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const config = configOf(folder.path, { db1: `unix://${server.socketPath}` });
    await using running = new Running(config);
    await running.told("db1", "archive failed");
    await running.told("db1", "base");
    const status = (await askStatus(join(folder.path, "spool/db1"))) as unknown as {
      archive: { state: string; trouble: string };
    };
    assert.equal(status.archive.state, "waiting");
    assert.match(status.archive.trouble, /there is no repository/);
    await using store = await openStore(join(folder.path, "repository"));
    await initRepository(store);
    await running.told("db1", "archive verified");
  });

  test("it says at once who writes the instance, and how to take over", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const config = configOf(folder.path, { db1: `unix://${server.socketPath}` });
    await using store = await openStore(join(folder.path, "repository"));
    const repository = await initRepository(store);
    await using _lease = await Lease.acquire(repository, "db1", { owner: "another up" });
    await using running = new Running(config);
    const told = await running.told("db1", "archive waits");
    assert.match(JSON.stringify(told), /"holder":"another up, process .*`tidemark up --steal`/);
    const folderOfSpool = join(folder.path, "spool/db1");
    const { archive } = (await askStatus(folderOfSpool)) as unknown as {
      archive: { state: string; trouble: string };
    };
    assert.equal(archive.state, "opening");
    const waits =
      /another up, process .* writes "db1"; unless it gives a sign of life until \d{4}-/;
    assert.match(archive.trouble, waits);
    await assert.rejects(askDaemon(folderOfSpool, { do: "backup" }), {
      code: "LEASE_HELD",
      message: waits,
      hint: /`tidemark up --steal`/,
    });
  });

  test("a moment of the policy that was missed is caught up once", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const backup = ", backup: {time_zone: UTC, jitter: 0s}";
    const config = configOf(folder.path, { db1: `unix://${server.socketPath}` }, backup);
    await using store = await openStore(join(folder.path, "repository"));
    await initRepository(store);
    {
      await using running = new Running(config);
      await running.told("db1", "archive verified");
    }
    // As if the machine had been off for ten days.
    const laterMs = 10 * 86_400_000;
    await using running = new Running(config, () => systemClock.now() + laterMs);
    await running.told("db1", "set taken");
    const { sets } = await readCatalogue(store, "db1");
    assert.equal(sets.length, 2);
    const kinds = running.events.filter((event) => event.kind === "event");
    const taken = kinds.filter(({ event }) => event.kind === "set taken");
    assert.equal(taken.length, 1);
  });

  test("a set is taken at once where none is left to restore the log from", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const config = configOf(folder.path, { db1: `unix://${server.socketPath}` });
    const path = join(folder.path, "repository");
    await using store = await openStore(path);
    await initRepository(store);
    {
      await using running = new Running(config);
      await running.told("db1", "archive verified");
    }
    rmSync(join(path, "instances/db1/sets"), { recursive: true });
    await using running = new Running(config);
    await running.told("db1", "set wanted");
    await running.told("db1", "set taken");
    const { sets } = await readCatalogue(store, "db1");
    assert.deepEqual(
      sets.map(({ isVerified }) => isVerified),
      [true],
    );
  });

  test("it ends with the signal, and leaves nothing that runs", async () => {
    using folder = temporaryFolder();
    await using server = await startServer("redis-8.0", { conf });
    const config = configOf(folder.path, { db1: `unix://${server.socketPath}` });
    await using store = await openStore(join(folder.path, "repository"));
    await initRepository(store);
    const running = new Running(config);
    await running.told("db1", "archive begins");
    await running.end();
    assert.equal(running.events.at(-1)?.kind, "down");
    for (const name of ["record.sock", "control.sock"]) {
      assert.ok(!existsSync(join(folder.path, "spool/db1", name)), name);
    }
  });

  test("it refuses a configuration in which there is nothing to run", async () => {
    using folder = temporaryFolder();
    const none = parseConfig("repositories: {main: {address: r}}", join(folder.path, "t.yaml"));
    const { signal } = new AbortController();
    await assert.rejects(up(none, { onEvent: () => {} }, signal), { code: "USAGE" });
  });
});
