/** The rule that is printed is enough on real servers, and none of it can be left out. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Connection, type ConnectOptions } from "../../src/link/connection.ts";
import {
  aclRules,
  type Permission,
  printAcl,
  recorderPermissions,
} from "../../src/link/permissions.ts";
import { Secret } from "../../src/link/secret.ts";
import { readInfo, Topology } from "../../src/link/topology.ts";
import { missingServers, type RunningServer, serverIds, startServer } from "../support/servers.ts";
import { Follower } from "./follower.ts";
import { freePort } from "./ports.ts";
import { until } from "./until.ts";

const user = "tidemark";
const options: ConnectOptions = { credentials: { user, password: Secret.text("PASSWORD") } };

async function grant(server: RunningServer, permissions: readonly Permission[]): Promise<void> {
  await server.call("ACL", "DELUSER", user);
  await server.call("ACL", "SETUSER", user, ...aclRules(permissions));
}

/** All that a recorder asks of a server. */
async function record(server: RunningServer, port: number | undefined): Promise<void> {
  const endpoint = { path: server.socketPath };
  await using follower = await Follower.start(endpoint, options);
  await server.call("SET", `key:${follower.start.offset}`, "v");
  await until("the write has come", async () => follower.stream.includes("key:"));
  await using connection = await Connection.open(endpoint, options);
  assert.equal((await readInfo(connection)).get("role"), "master");
  assert.equal((await connection.ask("TIME")).type, "array");
  if (port === undefined) return;
  const address = { host: "127.0.0.1", port };
  await using topology = new Topology(
    { kind: "cluster", seeds: [address], isTls: false, login: {} },
    options,
  );
  assert.equal((await topology.read())[0]?.members[0]?.role, "master");
}

suite("The least that a recorder needs", { concurrency: true }, () => {
  for (const id of serverIds) {
    for (const kind of ["server", "cluster"] as const) {
      test(`${id}, ${kind}: it is enough, and nothing of it is too much`, {
        skip: missingServers(id),
      }, async () => {
        const port = kind === "cluster" ? await freePort() : undefined;
        const conf = {
          "repl-diskless-sync-delay": 0,
          ...(port !== undefined && { port, "cluster-enabled": "yes", databases: 1 }),
        };
        await using server = await startServer(id, { conf });
        if (port !== undefined) await ownAllSlots(server);
        const all = recorderPermissions(kind);
        await grant(server, all);
        await record(server, port);
        assert.ok(printAcl(kind).includes(`ACL SETUSER ${user} ${aclRules(all).join(" ")}`));
        for (const missing of all) {
          await grant(
            server,
            all.filter((permission) => permission !== missing),
          );
          await assert.rejects(record(server, port), {
            ...{ code: "SERVER_DENIED", hint: new RegExp(missing.rule.replace(/[+|]/g, "\\$&")) },
            message: new RegExp(`^Cannot run ${missing.request} on `),
          });
        }
      });
    }
  }
});

async function ownAllSlots(server: RunningServer): Promise<void> {
  await server.call("CLUSTER", "ADDSLOTS", ...Array.from({ length: 16_384 }, (_, slot) => slot));
  await until("the cluster is up", async () => {
    return /cluster_state:ok/.test(String(await server.call("CLUSTER", "INFO")));
  });
}
