import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { type Certificates, makeCertificates, noOpenssl } from "../../test/link/certificates.ts";
import { FakeServer, type Peer } from "../../test/link/fake-server.ts";
import { temporaryFolder } from "../../test/support/folder.ts";
import { toLatin1 } from "../base/bytes.ts";
import { Connection } from "./connection.ts";
import { Secret } from "./secret.ts";

/** Answers each command with its words, and some with what is asked for. */
async function echo(peer: Peer): Promise<void> {
  for (;;) {
    const command = await peer.command();
    await peer.write(`+${command.join(" ")}\r\n`);
  }
}

/** Answers the first command so. */
const answer = (line: string) => async (peer: Peer) => {
  await peer.command();
  await peer.write(`${line}\r\n`);
  await peer.gone();
};

async function ask(connection: Connection, ...args: string[]): Promise<string> {
  const reply = await connection.ask(...args);
  return reply.type === "simple" ? toLatin1(reply.bytes) : reply.type;
}

suite("Connection", () => {
  test("replies belong to commands in their order, however many are under way", async () => {
    await using server = await FakeServer.start(echo);
    await using connection = await Connection.open(server.endpoint);
    const asked = Array.from({ length: 200 }, (_, i) => ask(connection, "ECHO", String(i)));
    assert.deepEqual(
      await Promise.all(asked),
      asked.map((_, i) => `ECHO ${i}`),
    );
  });

  test("open() logs in with a password that it fetches then, and selects the database", async () => {
    await using server = await FakeServer.start(echo);
    const credentials = { user: "u", password: Secret.command("echo $$; :") };
    const seen = new Set<string>();
    const commands: string[][] = [];
    await using second = await FakeServer.start(async (peer) => {
      for (;;) {
        const command = await peer.command();
        commands.push(command);
        await peer.write("+OK\r\n");
      }
    });
    for (let i = 0; i < 2; i++) {
      await using _ = await Connection.open(second.endpoint, { credentials, database: 3 });
      seen.add(commands.at(-2)?.[2] ?? "");
    }
    assert.equal(seen.size, 2);
    assert.deepEqual(commands.at(-2)?.slice(0, 2), ["AUTH", "u"]);
    assert.deepEqual(commands.at(-1), ["SELECT", "3"]);
    await using alone = await Connection.open(server.endpoint, {
      credentials: { password: Secret.text("p") },
    });
    assert.equal(await ask(alone, "ECHO"), "ECHO");
  });

  test("what ends it is told to all who wait, and to whoever comes later", async () => {
    await using server = await FakeServer.start(async (peer) => {
      await peer.command();
      peer.hangUp();
    });
    await using connection = await Connection.open(server.endpoint);
    const asked = [connection.call("A"), connection.call("B")];
    for (const call of asked) await assert.rejects(call, { code: "SERVER_LOST" });
    await assert.rejects(connection.call("C"), { code: "SERVER_LOST" });
  });

  test("a reply that is none ends it with PROTOCOL_ERROR", async () => {
    await using server = await FakeServer.start(answer("HTTP/1.1 400 Bad Request"));
    await using connection = await Connection.open(server.endpoint);
    await assert.rejects(connection.call("A"), { code: "PROTOCOL_ERROR" });
  });

  test("a server that does not answer in time is lost", async () => {
    await using server = await FakeServer.start((peer) => peer.gone());
    await using connection = await Connection.open(server.endpoint, { replyTimeoutMs: 30 });
    const silence = /silence for 0.03 s/;
    await assert.rejects(connection.call("A"), { code: "SERVER_LOST", message: silence });
  });

  test("what the server says unasked before it hangs up is the reason", async () => {
    await using server = await FakeServer.start(async (peer) => {
      await peer.write("-ERR max number of clients reached\r\n");
      peer.hangUp();
      await peer.gone();
    });
    await using connection = await Connection.open(server.endpoint);
    const call = connection.call("PING");
    const isSaid = call.then((reply) => reply.type === "error");
    // It may come before the command, or seem to be its reply.
    await isSaid.catch((error: unknown) => assert.match(String(error), /max number of clients/));
  });

  test("a signal ends it, and what waits", async () => {
    await using server = await FakeServer.start((peer) => peer.gone());
    const controller = new AbortController();
    await using connection = await Connection.open(server.endpoint, { signal: controller.signal });
    const call = connection.call("A");
    controller.abort();
    await assert.rejects(call, { code: "ABORTED" });
  });
});

suite("Connection.open() says why it cannot connect", () => {
  test("nothing listens there", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, "close");
    const open = Connection.open({ host: "127.0.0.1", port });
    await assert.rejects(open, { code: "SERVER_UNREACHABLE", message: /nothing listens there/ });
  });

  test("no such socket", async () => {
    const open = Connection.open({ path: "/nowhere/s" });
    await assert.rejects(open, { code: "SERVER_UNREACHABLE", message: /no such socket/ });
  });

  test("no such host", async () => {
    const open = Connection.open({ host: "nowhere.invalid", port: 6379 });
    await assert.rejects(open, { code: "SERVER_UNREACHABLE", message: /host/ });
  });

  test("no answer in time", async () => {
    // It takes the connection and never speaks TLS.
    await using server = await FakeServer.start((peer) => peer.gone());
    const open = Connection.open(server.endpoint, { tls: {}, connectTimeoutMs: 30 });
    await assert.rejects(open, {
      ...{ code: "SERVER_UNREACHABLE", message: /no answer within 0.03 s/ },
      hint: /speaks no TLS, write redis:/,
    });
  });

  const refusals: [line: string, code: string, hint: RegExp][] = [
    ["-WRONGPASS invalid username-password pair or user is disabled.", "SERVER_DENIED", /ACL LIST/],
    ["-ERR invalid password", "SERVER_DENIED", /password/],
    ["-ERR Client sent AUTH, but no password is set", "SERVER_DENIED", /take it out/],
    ["-ERR wrong number of arguments for 'auth' command", "SERVER_DENIED", /before 6.0/],
    ["-ERR unknown command 'AUTH', with args beginning with: 'u' 'hush'", "SERVER_DENIED", /./],
    ["-DENIED Redis is running in protected mode", "SERVER_DENIED", /protected mode/],
    ["-LOADING Redis is loading the dataset in memory", "SERVER_BUSY", /loading/],
  ];
  for (const [line, code, hint] of refusals) {
    test(`${line.slice(1, 40)} is ${code}, and the password is not repeated`, async () => {
      await using server = await FakeServer.start(answer(line));
      const credentials = { user: "u", password: Secret.text("hush") };
      const open = Connection.open(server.endpoint, { credentials });
      await assert.rejects(open, { code, hint, message: /^Cannot run AUTH on (?!.*hush)/ });
    });
  }

  test("a missing permission is named", async () => {
    await using server = await FakeServer.start(answer("-NOPERM User u has no permissions"));
    await using connection = await Connection.open(server.endpoint);
    const hint = /ACL SETUSER … \+cluster\|slots/;
    await assert.rejects(connection.ask("CLUSTER", "SLOTS"), { code: "SERVER_DENIED", hint });
  });
});

suite("Connection over TLS", { skip: noOpenssl }, () => {
  const folder = temporaryFolder();
  let files: Certificates;
  before(() => {
    files = makeCertificates(folder.path);
  });
  after(() => folder[Symbol.dispose]());

  async function startServer(demandsCertificate = false): Promise<FakeServer> {
    return await FakeServer.start(echo, {
      cert: readFileSync(files.server.cert),
      key: readFileSync(files.server.key),
      ca: readFileSync(files.ca),
      requestCert: demandsCertificate,
      rejectUnauthorized: demandsCertificate,
    });
  }

  test("a certificate of a trusted authority is taken, a large reply too", async () => {
    await using server = await FakeServer.start(
      async (peer) => {
        await peer.command();
        await peer.write(`$1000000\r\n${"x".repeat(1_000_000)}\r\n`);
        await peer.gone();
      },
      { cert: readFileSync(files.server.cert), key: readFileSync(files.server.key) },
    );
    await using connection = await Connection.open(server.endpoint, { tls: { caFile: files.ca } });
    const reply = await connection.ask("GET", "x");
    assert.equal(reply.type === "bulk" && reply.bytes.length, 1_000_000);
  });

  test("one that is not trusted, or for another name, is refused unless that is allowed", async () => {
    await using server = await startServer();
    const open = Connection.open(server.endpoint, { tls: {} });
    await assert.rejects(open, { code: "TLS_FAILED", message: /not from an authority/ });
    const tls = { caFile: files.ca, serverName: "other.test" };
    const misnamed = Connection.open(server.endpoint, { tls });
    await assert.rejects(misnamed, { code: "TLS_FAILED", message: /for another name/ });
    await using named = await Connection.open(server.endpoint, {
      tls: { caFile: files.ca, serverName: "server.test" },
    });
    assert.equal(await ask(named, "A"), "A");
    await using lax = await Connection.open(server.endpoint, { tls: { allowUnverified: true } });
    assert.equal(await ask(lax, "A"), "A");
  });

  test("a client certificate is shown where the server wants one, and the hint names it else", async () => {
    await using server = await startServer(true);
    const talk = async (pair: { cert?: string; key?: string }) => {
      const tls = { caFile: files.ca, certFile: pair.cert, keyFile: pair.key };
      await using connection = await Connection.open(server.endpoint, { tls });
      return await ask(connection, "A");
    };
    assert.equal(await talk(files.client), "A");
    const hint = /--cert FILE --key FILE/;
    await assert.rejects(talk({}), { code: "TLS_FAILED", hint });
    await assert.rejects(talk({ cert: files.client.cert }), { code: "USAGE", message: /its key/ });
    const missing = { cert: join(folder.path, "none"), key: files.client.key };
    await assert.rejects(talk(missing), { code: "FILE_MISSING" });
    const mixed = { cert: files.client.cert, key: files.stranger.key };
    await assert.rejects(talk(mixed), { code: "TLS_FAILED", message: /does not belong/ });
  });

  test("a port that speaks no TLS, and one that speaks nothing else, are told apart", async () => {
    await using plain = await FakeServer.start(async (peer) => {
      await peer.write("-ERR Protocol error: unbalanced quotes in request\r\n");
      await peer.gone();
    });
    const open = Connection.open(plain.endpoint, { tls: {} });
    await assert.rejects(open, { code: "TLS_FAILED", message: /does not speak TLS/ });
    await using server = await startServer();
    await using connection = await Connection.open(server.endpoint);
    await assert.rejects(connection.ask("A"), { code: "SERVER_LOST", hint: /rediss:/ });
  });
});
