/** A part of what `test/rewrite/all.ts` proves of every fixture. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { targets } from "../src/codec/rdb/model.ts";
import { proveCommands } from "./rewrite/commands.ts";
import { Judge } from "./rewrite/judge.ts";
import { newTally, prove, serversOf, toSubject } from "./rewrite/proof.ts";
import { hostileFixtures, type RdbFixture, rdbFixtures } from "./support/fixtures.ts";
import {
  type FixtureServerId,
  missingServers,
  type ServerId,
  serverIds,
  startServer,
} from "./support/servers.ts";

const skip = missingServers(...serverIds);
const judges = new Map(serverIds.map((id): [ServerId, Judge] => [id, new Judge(id)]));
after(async () => {
  for (const judge of judges.values()) await judge[Symbol.asyncDispose]();
});

/** Every type of value, expiries, functions: in one file where it is to be had, else in several. */
function richFixtures(server: FixtureServerId): RdbFixture[] {
  const fixtures = rdbFixtures(server);
  const everything = fixtures.filter(({ name }) => name === "everything");
  const parts = /^(expires|functions|hash-field-ttl|hashes|sets|streams|vector-sets|zsets)$/;
  return everything.length > 0 ? everything : fixtures.filter(({ name }) => parts.test(name));
}

const odd =
  /^(lzf-good|quicklist2?-0|quicklist2-empty|stream-good|ziplist-good|zipmap-good|list-0)/;
const groups = [
  ...serverIds.map((id) => {
    const others = rdbFixtures(id).filter(({ name }) => /^(lists|lru)$/.test(name));
    return [`the files of ${id}`, [...richFixtures(id), ...others]] as const;
  }),
  ["odd files", hostileFixtures().filter(({ name }) => odd.test(name))] as const,
];

for (const [title, fixtures] of groups) {
  test(`${title}, rewritten for any target, hold the same on its server`, { skip }, async (t) => {
    const tally = newTally();
    for (const fixture of fixtures) {
      try {
        await prove(toSubject(fixture), targets, judges, tally);
      } catch (cause) {
        throw new Error(fixture.id, { cause });
      }
    }
    t.diagnostic(JSON.stringify(tally));
    assert(tally.loads >= fixtures.length);
  });
}

for (const id of serverIds) {
  const served = targets.filter((target) => serversOf[target].includes(id));
  test(`files as commands for ${served.join(", ")} make the same data on ${id}`, {
    skip,
  }, async () => {
    await using server = await startServer(id);
    for (const fixture of serverIds.flatMap((source) => richFixtures(source))) {
      for (const target of served) await proveCommands(fixture.read(), target, server);
    }
  });
}
