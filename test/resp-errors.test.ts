/**
 * `RequestParser` beside real servers: the same bytes are accepted and refused, in the same words.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { Failure, RequestParser, RespEncoder, Slice } from "../src/resp.ts";
import { missingServers, type RunningServer, serverIds, startServer } from "./support/servers.ts";

/** A server that waits for more would make a test wait for ever. */
const timeout = 30_000;
/** Well over 64 KiB: how much more a server waits for depends on how it reads. */
const long = "1".repeat(100_000);
/** The end of each input: the answer to it tells that all before was accepted. */
const done = "*2\r\n$4\r\nECHO\r\n$4\r\ndone\r\n";

/** Every command in them is an ECHO. */
const inputs: readonly string[] = [
  "*x\r\n",
  "*\r\n",
  "*+1\r\n",
  "*01\r\n",
  "*2147483648\r\n",
  "*-9223372036854775809\r\n",
  `*${"1".repeat(30)}\r\n`,
  "*0\r\n",
  "*-1\r\n",
  "*-2147483649\r\n",
  "*1\r\n:4\r\n",
  "*1\r\n*1\r\n",
  "*1\r\n$-1\r\n",
  "*1\r\n$x\r\n",
  "*1\r\n$04\r\n",
  "*1\r\n$\r\n",
  "*1\r\n$536870913\r\n",
  "*1\r\n$9223372036854775808\r\n",
  "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
  "*2\r\n$4\r\necho\r\n$2\r\n\0\n\r\n",
  "\r\n\n\r\n",
  "ECHO a\n",
  "  ECHO   a  \r\n",
  `ECHO "a \\x41\\xff\\n\\r\\t\\b\\a\\q\\"'"\r\n`,
  `ECHO 'a \\x41 \\' "'\r\n`,
  `ECHO a"b c"\r\n`,
  `ECHO ""\r\n`,
  `ECHO ${"a".repeat(65_500)}\r\n`,
  'ECHO "a\r\n',
  "ECHO 'a\r\n",
];
/** Lines without an end: with one, servers may or may not see it in the same read. */
const endless: readonly string[] = [`*${long}`, `*1\r\n$${long}`, long];
/** Inputs that not all servers take alike. */
const odd = {
  headerEnd: "*2\rx$4\rxECHO\r\n$1\r\na\r\n",
  argumentEnd: "*2\r\n$4\r\nECHO\r\n$1\r\naxx",
  quotedPart: 'ECHO "a"b\r\n',
  blankLine: "  \r\n",
};
const oddFor: Partial<Record<string, readonly string[]>> = {
  // It checks line ends, and lets a word go on behind a quote.
  "valkey-9": [odd.headerEnd, odd.argumentEnd, odd.quotedPart],
  // It waits for the next read before it goes on.
  "valkey-8.1": [odd.blankLine],
};

/** What a server answers if it is as `RequestParser` says. */
function expect(input: string, isAuthenticated = true): string {
  const parser = new RequestParser();
  parser.isAuthenticated = isAuthenticated;
  const encoder = new RespEncoder();
  const slice = new Slice();
  parser.push(Buffer.from(input, "latin1"));
  try {
    while (parser.next()) {
      assert.equal(parser.argc, 2);
      parser.argument(1, slice);
      encoder.bulk(slice.copy());
    }
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    encoder.error(`ERR ${error.message}`);
  }
  return Buffer.from(encoder.take()).toString("latin1");
}

/** What the server answers, up to the last answer or until it closes the connection. */
async function ask(server: RunningServer, input: string): Promise<string> {
  const socket = connect({ path: server.socketPath });
  let answer = "";
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString("latin1");
    if (answer.endsWith("$4\r\ndone\r\n")) resolve();
  });
  socket.on("close", () => resolve());
  // A server that closes early does not read what is left: that is its answer, not a failure.
  socket.on("error", () => resolve());
  socket.write(Buffer.from(input, "latin1"));
  await promise;
  socket.destroy();
  return answer;
}

for (const id of serverIds) {
  const skip = missingServers(id);

  test(`${id} accepts and refuses what RequestParser does, in the same words`, {
    skip,
  }, async () => {
    await using server = await startServer(id);
    const others = Object.values(odd).filter((input) => !oddFor[id]?.includes(input));
    for (const input of [...inputs, ...others]) {
      const answer = await ask(server, input + done);
      assert.equal(answer, expect(input + done), JSON.stringify(input.slice(0, 60)));
    }
    for (const input of endless) assert.equal(await ask(server, input), expect(input));
  });

  test(`${id} holds clients without a password to RequestParser's limits`, {
    skip,
    timeout,
  }, async () => {
    await using server = await startServer(id, { conf: { requirepass: "secret" } });
    for (const input of ["*11\r\n$1\r\n", "*1\r\n$16385\r\n"]) {
      assert.equal(await ask(server, input), expect(input, false));
    }
  });
}

test("Valkey 9 checks line ends, and takes a word behind a quote", {
  skip: missingServers("valkey-9"),
}, async () => {
  await using server = await startServer("valkey-9");
  for (const input of [odd.headerEnd, odd.argumentEnd]) {
    const answer = await ask(server, input + done);
    assert.equal(answer, "-ERR Protocol error: invalid CRLF in request\r\n");
  }
  assert.equal(await ask(server, odd.quotedPart + done), "$2\r\nab\r\n$4\r\ndone\r\n");
});
