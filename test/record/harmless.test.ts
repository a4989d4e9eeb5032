import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { freePort } from "../link/ports.ts";
import { temporaryFolder } from "../support/folder.ts";
import { startServer } from "../support/servers.ts";
import { Recording } from "./recording.ts";

for (const id of ["redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const) {
  test(`${id} that is shut down does not wait for its recorder`, async () => {
    using folder = temporaryFolder();
    const port = await freePort();
    const conf = { port, bind: "127.0.0.1", "repl-diskless-sync-delay": 0, "shutdown-timeout": 60 };
    await using source = await startServer(id, { conf });
    await using recording = new Recording(`redis://127.0.0.1:${port}`, join(folder.path, "spool"));
    await recording.until(({ state }) => state === "streaming");
    await source.call("SET", "k", "v");
    const startedAtMs = performance.now();
    await source.stop("SIGTERM");
    // The limit is far from both: a second or two, and the minute of `shutdown-timeout`.
    const tookMs = performance.now() - startedAtMs;
    assert.ok(tookMs < 20_000, `${tookMs} ms`);
  });
}
