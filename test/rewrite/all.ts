/**
 * Rewrites every fixture for every target, as a file and as commands, and has each result judged by
 * real servers: `npm run rewrite`.
 *
 * Takes some minutes; `test/rewrite.test.ts` does a part of it. What is wrong is printed, and the
 * status is then 1. Arguments restrict it to fixtures whose name contains one of them.
 */
import { inspect } from "node:util";
import { targets } from "../../src/codec/rdb/model.ts";
import { foreignFixtures, hostileFixtures, rdbFixtures } from "../support/fixtures.ts";
import {
  findServer,
  missingServers,
  type RunningServer,
  type ServerId,
  serverIds,
  startServer,
} from "../support/servers.ts";
import { proveCommands } from "./commands.ts";
import { Judge } from "./judge.ts";
import { newTally, prove, type Subject, serversOf, toSubject } from "./proof.ts";

const reason = missingServers(...serverIds);
if (reason) console.log(`Not everything is judged: ${reason}`);

const judges = new Map<ServerId, Judge>();
const masters = new Map<ServerId, RunningServer>();
for (const id of serverIds.filter(findServer)) {
  judges.set(id, new Judge(id));
  masters.set(id, await startServer(id, { conf: { databases: 1024 } }));
}
/** Redis 6.0 takes a time 292 million years ago for one as far ahead. */
const misread = new Set(["hostile/expiry-min"]);
/** Servers load them, but refuse commands for streams that contradict themselves. */
const notAsCommands = new Set(["hostile/stream-last-id-less", "hostile/stream-added-less"]);
const loadable = [...hostileFixtures(), ...foreignFixtures()].filter(
  ({ id, file, servers }) =>
    !misread.has(id) &&
    /\.rdb(\.gz)?$/.test(file) &&
    Object.values(servers).some(({ loads }) => loads),
);
const wanted = process.argv.slice(2);
const isWanted = ({ id }: { readonly id: string }) =>
  wanted.length === 0 || wanted.some((text) => id.includes(text));
const groups = [
  ...serverIds.map((id) => [id, rdbFixtures(id).filter(isWanted).map(toSubject)] as const),
  ["odd and foreign", loadable.filter(isWanted).map(toSubject)],
] as const;

let failures = 0;
async function attempt(id: string, proof: () => Promise<unknown>): Promise<void> {
  try {
    await proof();
  } catch (error) {
    failures++;
    console.log(`NOT EQUAL: ${id}: ${inspect(error)}`);
  }
}

/** Returns how often the commands were sent. */
async function proveAsCommands({ id, read }: Subject): Promise<number> {
  let sent = 0;
  for (const target of targets) {
    for (const server of serversOf[target].map((name) => masters.get(name))) {
      if (!server) continue;
      sent++;
      await attempt(`${id} as commands for ${target}`, () => proveCommands(read(), target, server));
    }
  }
  return sent;
}

for (const [name, subjects] of groups) {
  const tally = newTally();
  let sentAsCommands = 0;
  for (const subject of subjects) {
    const { unreadable } = tally;
    await attempt(subject.id, () => prove(subject, targets, judges, tally));
    if (tally.unreadable > unreadable || notAsCommands.has(subject.id)) continue;
    sentAsCommands += await proveAsCommands(subject);
  }
  const facts = Object.entries({ ...tally, sentAsCommands });
  console.log(`${name}: ${facts.map(([what, count]) => `${what} ${count}`).join(", ")}`);
}
for (const judge of judges.values()) await judge[Symbol.asyncDispose]();
for (const master of masters.values()) await master.stop();
process.exitCode = failures === 0 ? 0 : 1;
