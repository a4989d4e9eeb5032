import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, suite, test } from "node:test";
import { S3Store } from "./s3.ts";
import { partBytes } from "./s3-upload.ts";
import type { Store } from "./store.ts";

/** A storage that says what a test wants it to say. */
suite("S3Store", () => {
  let answer: (request: IncomingMessage, response: ServerResponse) => void = () => {};
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    request.resume();
    request.on("end", () => answer(request, response));
  });
  let store: Store;
  before(async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    server.listen(0, "127.0.0.1", resolve);
    await promise;
    store = await S3Store.open({
      kind: "s3",
      bucket: "bucket",
      prefix: "p",
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      credentials: { accessKeyId: "id", secretAccessKey: "secret" },
      retry: { attempts: 3, firstDelayMs: 1, maxDelayMs: 1 },
    });
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
    server.closeAllConnections();
    server.close();
  });

  const gives =
    (status: number, headers: Record<string, string | number>, body: string) =>
    (_: IncomingMessage, response: ServerResponse) => {
      response.writeHead(status, headers);
      response.end(body);
    };
  const read = async (range?: { start: number; end: number }) =>
    Buffer.concat(await Array.fromAsync(store.read("o", range))).toString();
  const range = { start: 2, end: 5 };

  test("read() refuses an answer that is another range than the one it asked for", async () => {
    const unfit = { code: "STORE_UNFIT" };
    answer = gives(200, { "content-length": 10 }, "0123456789");
    await assert.rejects(read(range), unfit);
    for (const other of ["bytes 0-2/10", "bytes 2-5/10", "bytes 2-3/10", "bytes */10", "3 to 5"]) {
      answer = gives(206, { "content-length": 3, "content-range": other }, "234");
      await assert.rejects(read(range), unfit, other);
    }
    answer = gives(206, { "content-length": 2, "content-range": "bytes 2-4/10" }, "23");
    await assert.rejects(read(range), unfit);
    answer = gives(206, { "content-length": 3, "content-range": "bytes 2-4/10" }, "234");
    assert.equal(await read(range), "234");
    await assert.rejects(read(), unfit);
  });

  test("read() says where an object ends too early", async () => {
    answer = gives(206, { "content-length": 2, "content-range": "bytes 2-3/4" }, "23");
    await assert.rejects(read(range), { code: "DATA_CORRUPT", offset: 4 });
    answer = gives(416, {}, "");
    await assert.rejects(read(range), { code: "DATA_CORRUPT", offset: 2 });
  });

  test("read() refuses an object whose length is not said", async () => {
    answer = gives(200, { "transfer-encoding": "chunked" }, "0123");
    await assert.rejects(read(), { code: "STORE_UNFIT" });
  });

  test("read() refuses to go on with an object that was replaced", async () => {
    answer = (request, response) => {
      const from = Number(/=(\d+)/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const rest = from === 0 ? {} : { "content-range": `bytes ${from}-9/10` };
      const headers = { "content-length": 10 - from, etag: `"${from}"`, ...rest };
      response.writeHead(from === 0 ? 200 : 206, headers);
      response.write("01234", () => response.destroy());
    };
    await assert.rejects(read(), { code: "DATA_CORRUPT", message: /replaced while it was read/ });
  });

  test("read() of an object in one piece takes no range to go on", async () => {
    let count = 0;
    answer = (request, response) => {
      assert.equal(request.headers.range, undefined);
      response.writeHead(200, { "content-length": 10, etag: "e" });
      if (++count === 1) response.write("01234", () => response.destroy());
      else response.end("0123456789");
    };
    const chunks = store.read("o", { start: 3, end: 9 }, { inOnePiece: true });
    assert.equal(Buffer.concat(await Array.fromAsync(chunks)).toString(), "345678");
  });

  const page = (keys: string[], token?: string) =>
    gives(
      200,
      { "content-type": "application/xml" },
      `<?xml version="1.0"?><ListBucketResult><IsTruncated>${token !== undefined}</IsTruncated>` +
        (token === undefined ? "" : `<NextContinuationToken>${token}</NextContinuationToken>`) +
        keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join("") +
        "</ListBucketResult>",
    );
  const list = async (startAfter?: string) => {
    const infos = store.list("", startAfter === undefined ? {} : { startAfter });
    return (await Array.fromAsync(infos)).map((info) => info.name);
  };

  test("list() leaves out what is not ours, and what stands before the start", async () => {
    answer = page(["p/", "p/.x", "p/a", "p/a%2Fb+c%2B", "p/b%0A", "p/c/", "p/%zz", "p/d"]);
    assert.deepEqual(await list(), ["a", "a/b c+", "d"]);
    assert.deepEqual(await list("a"), ["a/b c+", "d"]);
  });

  test("list() refuses names out of order, twice, and pages without an end", async () => {
    const unfit = { code: "STORE_UNFIT" };
    for (const keys of [
      ["p/b", "p/a"],
      ["p/a", "p/a"],
    ]) {
      answer = page(keys);
      await assert.rejects(list(), unfit);
    }
    answer = page(["p/a"], "same");
    await assert.rejects(list(), unfit);
    answer = page([], "same");
    await assert.rejects(list(), unfit);
    let count = 0;
    answer = (request, response) => page([], `t${count++}`)(request, response);
    await assert.rejects(list(), unfit);
    answer = (request, response) => {
      const text = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
      gives(200, {}, text)(request, response);
    };
    await assert.rejects(list(), unfit);
  });

  test("delete() tries again what was busy, names what was denied, and can do it one by one", async () => {
    let left = 2;
    const said = (code: string) =>
      `<DeleteResult><Error><Key>p/a</Key><Code>${code}</Code><Message>m</Message></Error></DeleteResult>`;
    answer = (request, response) =>
      gives(200, {}, left-- > 0 ? said("InternalError") : "<DeleteResult/>")(request, response);
    await store.delete(["a", "b"]);
    answer = gives(200, {}, said("NoSuchKey"));
    await store.delete(["a"]);
    answer = gives(200, {}, said("InternalError"));
    await assert.rejects(store.delete(["a"]), { code: "STORE_BUSY" });
    answer = gives(200, {}, said("AccessDenied"));
    await assert.rejects(store.delete(["a"]), { code: "STORE_DENIED", message: /"a"/ });
    answer = (request, response) =>
      gives(request.method === "POST" ? 501 : 204, {}, "")(request, response);
    requests.length = 0;
    await store.delete(["a", "b"]);
    const singles = requests.filter((line) => line.startsWith("DELETE"));
    assert.deepEqual(
      singles.map((line) => line.split("?")[0]),
      ["DELETE /bucket/p/a", "DELETE /bucket/p/b"],
    );
  });

  test("put() is refused where a key would be too long with its prefix", async () => {
    const name = `${"a/".repeat(511)}b`;
    await assert.rejects(store.put(`${name}b`, new Uint8Array(1)), { code: "USAGE" });
  });
});

test("partBytes() grows so that ten thousand parts hold 492 GiB, none above 64 MiB", () => {
  let sum = 0;
  for (let number = 1; number <= 10_000; number++) sum += partBytes(number);
  assert.deepEqual(
    [partBytes(1), partBytes(1001), partBytes(10_000)],
    [8 << 20, 16 << 20, 64 << 20],
  );
  assert.equal(Math.floor(sum / 2 ** 30), 492);
});
