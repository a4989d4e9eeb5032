/** Restores of a log that has a restore in it: into the very instance that was recorded. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { restoreToServer } from "../../src/recovery/restore-server.ts";
import type { RestoreTarget } from "../../src/recovery/target.ts";
import { findServer, missingServers, startServer } from "../support/servers.ts";
import { addressOf, archiveOf, planOf, snapshotOf, startMs } from "./server-archive.ts";
import { replicationId } from "./synthetic.ts";

const marker = "tidemark:restore";
const mark = '{"plan":"x","phase":"keys","keys":0,"bytes":0}';
const set = `SET ${marker} ${mark}`;
const latest: RestoreTarget = { kind: "latest" };
const own = snapshotOf({ keys: { own: "1" } });
/** Begun in the third second. */
const begun = ["SET a 1", "ZADD z 1 m", ["FLUSHALL", set], "SET a 1", "ZADD z 1 m", set];

const before = (command: string) => ({ kind: "before", command, untilMs: undefined }) as const;

suite("before:COMMAND", () => {
  test("passes over all that a restore has sent, up to the end of its marker", async () => {
    const archived = await archiveOf([...begun, "DEL z", `DEL ${marker}`, "SET b 1"], own);
    assert.equal((await planOf(archived, before("ZADD"))).moment.ms, startMs + 1000);
    assert.equal((await planOf(archived, before("SET"))).moment.ms, startMs + 8000);
    await assert.rejects(planOf(archived, before("DEL")), /no DEL is in the log/);
  });

  test("finds what others have sent behind a restore, be it ended or given up", async () => {
    const ended = await archiveOf([...begun, `DEL ${marker}`, "ZADD z 2 m"], own);
    assert.equal((await planOf(ended, before("ZADD"))).moment.ms, startMs + 7000);
    const givenUp = await archiveOf([...begun, "DEL a", "FLUSHALL"], own);
    assert.equal((await planOf(givenUp, before("DEL"))).moment.ms, startMs + 6000);
    assert.equal((await planOf(givenUp, before("FLUSHALL"))).moment.ms, startMs + 7000);
  });
});

suite("a moment inside of a restore", () => {
  const position = (second: number) => ({ kind: "time", ms: startMs + 1000 * second }) as const;

  test("is noted by the plan, with the moments around it", async () => {
    const archived = await archiveOf([...begun, `DEL ${marker}`, "SET b 1"], own);
    const notes = async (target: RestoreTarget) => (await planOf(archived, target)).notes.join();
    for (const second of [3, 4, 6]) {
      const found = await notes(position(second));
      assert.match(found, /inside of a restore that was recorded/);
      assert.match(found, new RegExp(`before it --at @${replicationId}:\\d+ .*:22.000Z`));
      assert.match(found, new RegExp(`behind it --at @${replicationId}:\\d+ .*:27.000Z`));
    }
    for (const target of [latest, position(2), position(7)]) assert.equal(await notes(target), "");
  });

  test("is noted where the restore has no end, and where the set was taken in it", async () => {
    const open = await planOf(await archiveOf(begun, own), latest);
    assert.match(open.notes.join(), /inside of a restore .* no end of it/);
    const inSet = snapshotOf({ keys: { [marker]: mark, a: "1" } });
    assert.match((await planOf(await archiveOf([], inSet), latest)).notes.join(), /inside of a/);
    const over = await planOf(await archiveOf([`DEL ${marker}`], inSet), latest);
    assert.deepEqual(over.notes, []);
  });

  test("is noted by the restore itself", { skip: missingServers("redis-7.0") }, async () => {
    await using server = await startServer("redis-7.0");
    const notesOf = async (units: typeof begun, rdb = own, program?: string) => {
      await server.call("FLUSHALL");
      const archived = await archiveOf(units, rdb);
      const options = program === undefined ? {} : { server: program, prefix: Buffer.from("p:") };
      const plan = await planOf(archived, latest);
      const restored = await restoreToServer(archived.view, plan, addressOf(server), options);
      assert.equal(await server.call("EXISTS", marker), 0);
      return restored.notes.join();
    };
    const inSet = snapshotOf({ keys: { [marker]: mark, a: "1" } });
    assert.match(await notesOf(begun), /inside of a restore/);
    assert.match(await notesOf([], inSet), /inside of a restore/);
    assert.match(await notesOf(["SET b 1"], inSet), /inside of a restore/);
    assert.equal(await notesOf(["SET b 1", `DEL ${marker}`], inSet), "");
    assert.equal(await notesOf([...begun, `DEL ${marker}`]), "");
    assert.match(
      await notesOf(begun, own, findServer("redis-7.0")?.bin.server),
      /inside of a restore/,
    );
  });
});
