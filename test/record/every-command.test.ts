import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { freePort } from "../link/ports.ts";
import type { Client } from "../support/client.ts";
import { missingServers, serverIds, startServer } from "../support/servers.ts";
import { dataless, examplesFor, withoutExample } from "./every-command.ts";
import { caller, readFlags, run, type Stage, setUp, waysOf } from "./run-example.ts";

for (const id of serverIds) {
  suite(`the write commands of ${id}`, { skip: missingServers(id) }, () => {
    test("each has an example, or a reason for having none", async () => {
      await using server = await startServer(id);
      const flags = await readFlags(server.client);
      const writing = [...flags].filter(
        ([, each]) => each.includes("write") || each.includes("may_replicate"),
      );
      const known = new Set(examplesFor(id).map(({ name }) => name));
      const unknown = writing.map(([name]) => name).filter((name) => !known.has(name));
      assert.deepEqual(
        unknown.filter((name) => withoutExample[name] === undefined),
        [],
      );
      assert.ok(writing.length > 80, `${writing.length} commands`);
      for (const name of known) assert.ok(flags.has(name), `${name} is known to ${id}`);
    });

    test("each example is taken in every way, and changes data", async (context) => {
      const peerPort = await freePort();
      await using peer = await startServer(id, { conf: { port: peerPort, bind: "127.0.0.1" } });
      await using server = await startServer(id);
      await using waiter = await server.connect();
      const { client } = server;
      const flags = await readFlags(client);
      const load = () => flags.has("fcall") && client.call("FUNCTION", "LOAD", "REPLACE", caller);
      let runs = 0;
      for (const example of examplesFor(id)) {
        for (const way of waysOf(example, flags)) {
          await load();
          const prefix = `k${runs++}_`;
          const stage: Stage = { client, waiter, database: runs % 4, peerPort, prefix };
          await run(example, way, stage).catch((error: unknown) =>
            assert.fail(`${example.text} (${way}): ${String(error)}`),
          );
        }
        const stage: Stage = { client, waiter, database: 0, peerPort, prefix: `k${runs++}_` };
        const command = await setUp(example, stage);
        const before = await changes(client);
        await client.call(...command);
        const hasChanged = (await changes(client)) > before;
        assert.ok(hasChanged || dataless.has(example.name), `"${example.text}" changes something`);
      }
      assert.ok(Number(await peer.call("DBSIZE")) > 0, "MIGRATE has moved keys");
      context.diagnostic(`${runs} runs`);
    });
  });
}

/** Counts what changes the data set; only a save sets it back. */
async function changes(client: Client): Promise<number> {
  const info = String(await client.call("INFO", "persistence"));
  return Number(/rdb_changes_since_last_save:(\d+)/.exec(info)?.[1]);
}
