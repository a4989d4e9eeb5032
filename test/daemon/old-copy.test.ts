/** A machine that is brought back from a snapshot: its spool is an old copy of the one that was archived. */
import assert from "node:assert/strict";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readCatalogue } from "../../src/archive/catalogue.ts";
import { initRepository, type Repository } from "../../src/archive/repository.ts";
import { verifyLog } from "../../src/archive/verify.ts";
import { systemClock } from "../../src/base/clock.ts";
import { parseConfig } from "../../src/daemon/config.ts";
import { type UpEvent, up } from "../../src/daemon/up.ts";
import { openStore } from "../../src/store/open.ts";
import { temporaryFolder } from "../support/folder.ts";
import { missingServers, startServer } from "../support/servers.ts";

async function piecesOf(repository: Repository): Promise<string[]> {
  const { lines } = await readCatalogue(repository.store, "db1");
  return lines.flatMap(({ runs }) => runs.flatMap((run) => run.pieces.map(({ object }) => object)));
}

test("`up` on an old copy of the spool keeps what is archived and begins another line", {
  skip: missingServers("redis-8.0"),
}, async ({ signal }) => {
  using folder = temporaryFolder();
  await using server = await startServer("redis-8.0", { conf: { "repl-diskless-sync-delay": 0 } });
  const [spool, copy] = [join(folder.path, "spool"), join(folder.path, "copy")];
  const config = parseConfig(
    [
      "repositories: {main: {address: repository}}",
      `instances: {db1: {source: "unix://${server.socketPath}", archive_interval: 1s}}`,
    ].join("\n"),
    join(folder.path, "tidemark.yaml"),
  );
  await using store = await openStore(join(folder.path, "repository"));
  const repository = await initRepository(store);
  let value = 0;
  /** Until what was asked for is there. */
  const run = async (isDone: (events: readonly UpEvent[]) => Promise<boolean>) => {
    const events: UpEvent[] = [];
    const stop = new AbortController();
    const running = up(config, { onEvent: (event) => events.push(event) }, stop.signal);
    try {
      for (;;) {
        signal.throwIfAborted();
        await server.call("SET", "key", String(++value));
        if (await isDone(events)) return events;
        await sleep(100);
      }
    } finally {
      stop.abort();
      await running;
    }
  };
  const has = (count: number) => async () => (await piecesOf(repository)).length >= count;
  await run(has(2));
  cpSync(spool, copy, { recursive: true });
  await run(has(4));
  const before = await piecesOf(repository);
  rmSync(spool, { recursive: true });
  cpSync(copy, spool, { recursive: true });
  const events = await run(async () => {
    const { lines } = await readCatalogue(repository.store, "db1");
    return lines.length === 2;
  });
  assert.match(JSON.stringify(events), /"reason":"the archive has another log than the spool"/);
  const after = await piecesOf(repository);
  assert.ok(before.every((object) => after.includes(object)));
  const { findings, holes } = await verifyLog(repository, "db1", { clock: systemClock });
  assert.deepEqual([findings, holes], [[], []]);
});
