/** A restore that the server answers with an error is not gone on with behind it, however it ended. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { parseAddress } from "../../src/link/address.ts";
import { Secret } from "../../src/link/secret.ts";
import type { ServerOptions } from "../../src/recovery/restore-request.ts";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import { missingServers, type RunningServer, startServer } from "../support/servers.ts";
import type { Archived } from "./archived.ts";
import { archiveOf, planOf, snapshotOf } from "./server-archive.ts";

const marker = "tidemark:restore";
const own = snapshotOf({ keys: { own: "1" } });
const skip = missingServers("redis-7.0");

async function restore(archived: Archived, server: RunningServer, options: ServerOptions = {}) {
  const plan = await planOf(archived, { kind: "latest" });
  const address = parseAddress(`unix://${server.socketPath}`);
  const connect = { credentials: { user: "r", password: Secret.text("pw") } };
  return await restoreToServer(archived.view, plan, address, { connect, ...options });
}

/** Of a user who may do all but some command. */
async function startFor(denied: string, databases = 16): Promise<RunningServer> {
  const server = await startServer("redis-7.0", { conf: { databases } });
  await server.call("ACL", "SETUSER", "r", "on", ">pw", "~*", "+@all", denied);
  return server;
}

const grant = (server: RunningServer, rule: string) => server.call("ACL", "SETUSER", "r", rule);
const getText = async (server: RunningServer, key: string) => String(await server.call("GET", key));
const readMark = async (server: RunningServer) => JSON.parse(await getText(server, marker));

/** Many batches behind the command that is refused, which the server executes all the same. */
const behind = Array.from({ length: 5000 }, (_, i) => `HSET behind:${i} f ${i}`);

suite("a log of which the server refuses a command", { skip }, () => {
  test("is gone on with from in front of it where all may be done again", async () => {
    await using server = await startFor("-unlink");
    const log = ["HSET a f v", "DEL a", "SET a x", "SET gone 1", "UNLINK gone", ...behind];
    const archived = await archiveOf(log, own);
    await assert.rejects(restore(archived, server), /NOPERM/);
    await assert.rejects(restore(archived, server), /NOPERM/);
    await grant(server, "+unlink");
    const { isResumed } = await restore(archived, server);
    assert.equal(isResumed, true);
    assert.equal(await server.call("EXISTS", "gone", marker), 0);
    assert.equal(await server.call("DBSIZE"), behind.length + 2);
    assert.equal(await getText(server, "a"), "x");
  });

  test("is refused, or begun over, where not all may be", async () => {
    await using server = await startFor("-incr");
    const log = ["APPEND text x", "INCR number", "APPEND text y", ...behind, "APPEND text z"];
    const archived = await archiveOf(log, own);
    await assert.rejects(restore(archived, server), /NOPERM/);
    await grant(server, "+incr");
    const expected = { code: "TARGET_NOT_EMPTY", message: /refused a command .*NOPERM/ };
    await assert.rejects(restore(archived, server), expected);
    const { isResumed, notes } = await restore(archived, server, { overwrite: true });
    assert.equal(isResumed, false);
    assert.match(notes.join(), /this restore, .* begun over/);
    assert.deepEqual(
      [await getText(server, "text"), await getText(server, "number")],
      ["xyz", "1"],
    );
    assert.equal(await server.call("EXISTS", marker), 0);
  });

  test("is refused also inside of EXEC, by an error of the data", async () => {
    await using server = await startFor("-unlink");
    const archived = await archiveOf(["RPUSH own x", ...behind], own);
    await assert.rejects(restore(archived, server), /WRONGTYPE/);
    assert.equal((await readMark(server)).phase, "failed");
    await assert.rejects(restore(archived, server), { code: "TARGET_NOT_EMPTY" });
  });

  test("is not gone on with where nobody has seen the error", async () => {
    await using server = await startFor("-incr");
    const log = ["APPEND text x", "INCR number", ...behind, "APPEND text z"];
    const archived = await archiveOf(log, own);
    await assert.rejects(restore(archived, server), /NOPERM/);
    await grant(server, "+incr");
    // As the marker of a batch would be, had the restore been killed when the error came.
    const { failure: _, ...mark } = await readMark(server);
    const info = String(await server.call("INFO"));
    const runId = /^run_id:(\S+)/m.exec(info)?.[1];
    for (const errors of [`${runId}:0`, "other:0", null]) {
      await server.call("SET", marker, JSON.stringify({ ...mark, phase: "log", errors }));
      await assert.rejects(restore(archived, server), {
        code: "TARGET_NOT_EMPTY",
        message: /cannot be told/,
      });
    }
  });
});

suite("an empty server is asked before anything is written", { skip }, () => {
  const isUntouched = async (server: RunningServer) => {
    assert.equal(await server.call("DBSIZE"), 0);
  };

  test("for databases, of the set and of the log", async () => {
    await using server = await startFor("-unlink", 4);
    const expected = { code: "TARGET_CANNOT_HOLD", message: /database 9/ };
    const inSet = await archiveOf([], snapshotOf({ keys: { a: "1" }, database: 9 }));
    await assert.rejects(restore(inSet, server), expected);
    await assert.rejects(restore(await archiveOf(["SELECT 9", "SET a 1"], own), server), expected);
    await isUntouched(server);
    const databases = new Map([[9, 0]]);
    assert.equal((await restore(inSet, server, { databases })).keys, 1);
  });

  test("for commands, and for libraries of its own", async () => {
    await using server = await startFor("-unlink");
    const unknown = await archiveOf(["SET a 1", "HPEXPIREAT h 1 FIELDS 1 f"], own);
    await assert.rejects(restore(unknown, server), /does not know: HPEXPIREAT/);
    const code = "#!lua name=l\nredis.register_function('f', function() return 1 end)";
    await server.call("FUNCTION", "LOAD", code);
    const archived = await archiveOf(["SET a 1"], own);
    await assert.rejects(restore(archived, server), {
      code: "TARGET_NOT_EMPTY",
      message: /there are function libraries/,
    });
    await isUntouched(server);
    // Where keys are chosen, no libraries come along.
    const alone = await archiveOf([], own);
    assert.equal((await restore(alone, server, { selection: { keys: ["*"] } })).keys, 1);
  });
});
