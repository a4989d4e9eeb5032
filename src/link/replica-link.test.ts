import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { captures, noCaptures } from "../../test/link/captures.ts";
import { FakeServer } from "../../test/link/fake-server.ts";
import { fakeSource, takeHandshake } from "../../test/link/fake-source.ts";
import type { Position } from "../codec/aof/annotation.ts";
import { ReplicaLink } from "./replica-link.ts";

const id = "0123456789abcdef0123456789abcdef01234567";
const otherId = "fedcba9876543210fedcba9876543210fedcba98";
const mark = "m".repeat(40);
const full = `+FULLRESYNC ${id} 100\r\n`;
/** Version 9, one key with the mark as its value, and no checksum. */
const rdb = Buffer.concat([
  Buffer.from("REDIS0009\xfe\x00\x00\x01k\x28", "latin1"),
  Buffer.from(mark),
  Buffer.from("\xff\0\0\0\0\0\0\0\0", "latin1"),
]);
const ping = "*1\r\n$4\r\nPING\r\n";

/** Reads a stream until so many bytes have come. */
async function take(chunks: AsyncIterable<Uint8Array>, size: number): Promise<Buffer> {
  const taken: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    assert.ok(chunk.length > 0, "no chunk is empty");
    // A copy: it is borrowed until the next one.
    taken.push(new Uint8Array(chunk));
    length += chunk.length;
    if (length >= size) break;
  }
  return Buffer.concat(taken);
}

async function takeAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return await take(chunks, Number.POSITIVE_INFINITY);
}

suite("ReplicaLink and what real servers sent", { skip: noCaptures }, () => {
  for (const capture of captures()) {
    test(`${capture.id}: snapshot and stream come out byte for byte`, async () => {
      const [part, resumed] = capture.parts;
      assert.ok(part);
      const sends = [...capture.replies, capture.snapshot, capture.mark ?? "", part.bytes];
      const { server, psync } = await fakeSource({ sends, pieces: [1, 7, 4096, 70_000] });
      await using _ = server;
      await using link = await ReplicaLink.open(server.endpoint);
      const start = await link.start();
      assert.deepEqual(await psync, ["PSYNC", "?", "-1"]);
      const position = { replicationId: part.replicationId, offset: part.startOffset };
      assert.deepEqual(start, { kind: "full", position });
      assert.ok((await takeAll(link.snapshot())).equals(capture.snapshot));
      assert.ok((await take(link.stream(), part.bytes.length)).equals(part.bytes));
      assert.equal(link.offset, part.endOffset);
      if (resumed?.reply) {
        await resume({ ...part, ...resumed, from: part.replicationId, reply: resumed.reply });
      }
    });
  }

  async function resume(part: {
    readonly from: string;
    readonly replicationId: string;
    readonly startOffset: number;
    readonly endOffset: number;
    readonly bytes: Uint8Array;
    readonly reply: Uint8Array;
  }): Promise<void> {
    const { server, psync } = await fakeSource({
      sends: [part.reply, part.bytes],
      pieces: [3, 999],
    });
    await using _ = server;
    await using link = await ReplicaLink.open(server.endpoint);
    const start = await link.start({ replicationId: part.from, offset: part.startOffset });
    assert.deepEqual(await psync, ["PSYNC", part.from, String(part.startOffset + 1)]);
    const position = { replicationId: part.replicationId, offset: part.startOffset };
    assert.deepEqual(start, { kind: "continue", position });
    assert.ok((await take(link.stream(), part.bytes.length)).equals(Buffer.from(part.bytes)));
    assert.equal(link.offset, part.endOffset);
  }
});

suite("ReplicaLink and a source that is unkind", () => {
  test("nothing depends on how the bytes are cut, keep-alives and a mark in the data included", async () => {
    const stream = Buffer.from(ping.repeat(3));
    const forms: [string, string][] = [
      [`$${rdb.length}\r\n`, ""],
      [`$EOF:${mark}\r\n`, mark],
    ];
    // One piece may end right behind the mark in the data.
    const upToMark = rdb.indexOf(mark) + 40;
    const cuts = fc.oneof(
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 }),
      fc.constantFrom([1], [1000], [upToMark]),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...forms),
        cuts,
        fc.nat(3),
        async ([head, tail], pieces, n) => {
          const alive = "\n".repeat(n);
          const whole = Buffer.concat([Buffer.from(alive + head), rdb, Buffer.from(tail), stream]);
          const { server } = await fakeSource({ sends: [alive + full, whole], pieces });
          await using _ = server;
          await using link = await ReplicaLink.open(server.endpoint);
          await link.start();
          assert.ok((await takeAll(link.snapshot())).equals(rdb));
          assert.ok((await take(link.stream(), stream.length)).equals(stream));
          assert.equal(link.offset, 100 + stream.length);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("a cut anywhere is a Failure SERVER_LOST, and what came before it is given out", async () => {
    const head = Buffer.from(`${full}$EOF:${mark}\r\n`);
    const stream = Buffer.from(ping.repeat(2));
    const whole = Buffer.concat([head, rdb, Buffer.from(mark), stream]);
    const before = whole.length - stream.length;
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), async (size) => {
        const { server } = await fakeSource({ sends: [whole.subarray(0, size)], hangsUp: true });
        await using _ = server;
        await using link = await ReplicaLink.open(server.endpoint);
        const given = { snapshot: 0, stream: 0 };
        const follow = async () => {
          await link.start();
          for await (const chunk of link.snapshot()) given.snapshot += chunk.length;
          for await (const chunk of link.stream()) given.stream += chunk.length;
        };
        await assert.rejects(follow(), { code: "SERVER_LOST" });
        const inSnapshot = Math.min(Math.max(size - head.length, 0), rdb.length);
        assert.deepEqual(given, { snapshot: inSnapshot, stream: Math.max(size - before, 0) });
      }),
      { numRuns: 60 },
    );
  });

  const answers: [answer: string, code: string, words: RegExp][] = [
    ["-NOMASTERLINK Can't SYNC while not connected with my master", "SERVER_BUSY", /NOMASTERLINK/],
    ["-LOADING Redis is loading the dataset in memory", "SERVER_BUSY", /LOADING/],
    ["-ERR BGSAVE failed, replication can't continue", "SERVER_BUSY", /BGSAVE failed/],
    ["-NOPERM this user has no permissions to run the 'psync' command", "SERVER_DENIED", /PSYNC/],
    ["-NOAUTH Authentication required.", "SERVER_DENIED", /NOAUTH/],
    [
      "-ERR unknown command 'PSYNC', with args beginning with: 'a'",
      "REPLICATION_REFUSED",
      /PSYNC'"$/,
    ],
    ["-ERR command is not allowed", "REPLICATION_REFUSED", /not allowed/],
    ["+RDBCHANNELSYNC 7", "PROTOCOL_ERROR", /RDBCHANNELSYNC/],
    ["+FULLRESYNC abc 1", "PROTOCOL_ERROR", /FULLRESYNC abc/],
    [`+FULLRESYNC ${id} -1`, "PROTOCOL_ERROR", /-1/],
    [`+FULLRESYNC ${id} 99999999999999999`, "PROTOCOL_ERROR", /9999/],
    ["+CONTINUE", "PROTOCOL_ERROR", /CONTINUE/],
    [":1", "PROTOCOL_ERROR", /integer/],
  ];
  for (const [answer, code, words] of answers) {
    test(`start() fails with ${code} on ${answer.slice(0, 30)}`, async () => {
      const { server } = await fakeSource({ sends: [`${answer}\r\n`] });
      await using _ = server;
      await using link = await ReplicaLink.open(server.endpoint);
      await assert.rejects(link.start(), { code, message: words });
    });
  }

  const positions: [answer: string, got: Position][] = [
    ["+CONTINUE", { replicationId: id, offset: 7 }],
    [`+CONTINUE ${otherId}`, { replicationId: otherId, offset: 7 }],
    [`+CONTINUE ${otherId.toUpperCase()}`, { replicationId: otherId, offset: 7 }],
  ];
  for (const [answer, position] of positions) {
    test(`start() takes the id that ${answer} brings, and the offset that was asked for`, async () => {
      const { server } = await fakeSource({ sends: [`${answer}\r\n${ping}`] });
      await using _ = server;
      await using link = await ReplicaLink.open(server.endpoint);
      const start = await link.start({ replicationId: id, offset: 7 });
      assert.deepEqual(start, { kind: "continue", position });
      assert.equal((await take(link.stream(), ping.length)).toString(), ping);
      assert.equal(link.offset, 7 + ping.length);
    });
  }

  const snapshots: [what: string, sends: string, code: string][] = [
    ["a header that is none", "what\r\n", "PROTOCOL_ERROR"],
    ["an endless header", "$".repeat(5000), "PROTOCOL_ERROR"],
    ["a size of 0", "$0\r\n", "PROTOCOL_ERROR"],
    ["an error in its place", "-ERR BGSAVE failed\r\n", "SERVER_BUSY"],
    [
      "another mark",
      `$EOF:${mark}\r\n${rdb.toString("latin1")}${"x".repeat(40)}`,
      "PROTOCOL_ERROR",
    ],
    ["no RDB", `$EOF:${mark}\r\nnothing of the kind`, "DATA_CORRUPT"],
    ["a type of the future", `$EOF:${mark}\r\nREDIS0012\x7d\x01k`, "DATA_UNSUPPORTED"],
  ];
  for (const [what, sends, code] of snapshots) {
    test(`snapshot() fails with ${code} on ${what}`, async () => {
      const { server } = await fakeSource({ sends: [full, sends] });
      await using _ = server;
      await using link = await ReplicaLink.open(server.endpoint);
      await link.start();
      await assert.rejects(takeAll(link.snapshot()), { code });
    });
  }

  test("silence is a Failure; newlines are none, and neither is a slow consumer", async () => {
    const { promise: isSlow, resolve: wasSlow } = Promise.withResolvers<void>();
    await using server = await FakeServer.start(async (peer) => {
      await takeHandshake(peer);
      // Far longer than the timeout in all.
      for (let i = 0; i < 8; i++) {
        const { promise, resolve } = Promise.withResolvers<void>();
        setTimeout(resolve, 20);
        await promise;
        await peer.write("\n");
      }
      await peer.write(`${full}$${rdb.length}\r\n`);
      await peer.write(rdb);
      await isSlow;
      await peer.write(ping);
      await peer.gone();
    });
    await using link = await ReplicaLink.open(server.endpoint, { silenceTimeoutMs: 90 });
    await link.start();
    await takeAll(link.snapshot());
    const { promise: late, resolve } = Promise.withResolvers<void>();
    setTimeout(resolve, 150);
    await late;
    wasSlow();
    let received = 0;
    const follow = async () => {
      for await (const chunk of link.stream()) received += chunk.length;
    };
    await assert.rejects(follow(), { code: "SERVER_LOST", message: /silence for 0.09 s.*114/ });
    assert.equal(received, ping.length);
  });

  test("the source is read no faster than the consumer asks", async () => {
    const block = Buffer.alloc(8 * 1024 * 1024, ping);
    let written = 0;
    let peerSocket: { readonly writableLength: number } | undefined;
    await using server = await FakeServer.start(async (peer) => {
      await takeHandshake(peer);
      await peer.write(`+CONTINUE\r\n`);
      peerSocket = peer.socket;
      for (let i = 0; i < 4; i++) {
        written += block.length;
        peer.socket.write(block);
      }
      await peer.gone();
    });
    await using link = await ReplicaLink.open(server.endpoint);
    await link.start({ replicationId: id, offset: 0 });
    const stream = link.stream();
    await stream.next();
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
    assert.ok((peerSocket?.writableLength ?? 0) > written - 2 * 1024 * 1024);
    while (link.offset < written) await stream.next();
    assert.equal(link.offset, written);
  });

  test("ack() never acknowledges the last byte received, and 1 where there is none", async () => {
    const { server, acks } = await fakeSource({ sends: [`+CONTINUE\r\n${ping}`] });
    await using _ = server;
    await using link = await ReplicaLink.open(server.endpoint);
    await link.start({ replicationId: id, offset: 0 });
    link.ack(0, 0);
    await take(link.stream(), ping.length);
    link.ack(14);
    link.ack(14, 14);
    link.ack(9, 5);
    while (acks.length < 4) await new Promise(setImmediate);
    const ack = (...rest: string[]) => ["REPLCONF", "ACK", ...rest];
    assert.deepEqual(acks, [
      ack("1", "FACK", "0"),
      ack("13"),
      ack("13", "FACK", "13"),
      ack("9", "FACK", "5"),
    ]);
  });

  test("an aborted signal ends whatever waits, with the code ABORTED", async () => {
    const { server } = await fakeSource({ sends: [`+CONTINUE\r\n`] });
    await using _ = server;
    const controller = new AbortController();
    await using link = await ReplicaLink.open(server.endpoint, { signal: controller.signal });
    await link.start({ replicationId: id, offset: 0 });
    const next = link.stream().next();
    controller.abort();
    await assert.rejects(next, { code: "ABORTED" });
    const again = ReplicaLink.open(server.endpoint, { signal: controller.signal });
    await assert.rejects(again, { code: "ABORTED" });
  });

  test("the handshake says what this replica can do, and takes an error for an unknown version", async () => {
    const commands: string[][] = [];
    await using server = await FakeServer.start(async (peer) => {
      for (;;) {
        const command = await peer.command();
        commands.push(command);
        const isVersion = command[1] === "version";
        await peer.write(isVersion ? "-ERR Unrecognized REPLCONF option: version\r\n" : "+OK\r\n");
      }
    });
    await using _ = await ReplicaLink.open(server.endpoint, { announcedHost: "recorder" });
    assert.deepEqual(commands, [
      ["REPLCONF", "capa", "eof", "capa", "psync2"],
      ["REPLCONF", "version", "9.0.0"],
      ["REPLCONF", "ip-address", "recorder"],
    ]);
  });
});
