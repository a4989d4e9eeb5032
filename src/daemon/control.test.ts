import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { temporaryFolder } from "../../test/support/folder.ts";
import { Failure } from "../base/errors.ts";
import { askDaemon, ControlSocket } from "./control.ts";

suite("ControlSocket", () => {
  test("does what is asked for, and tells how far it is", async () => {
    using folder = temporaryFolder();
    await using _socket = await ControlSocket.open(folder.path, async (request, onProgress) => {
      onProgress(1);
      onProgress(2);
      return { noted: request.note };
    });
    const seen: unknown[] = [];
    const asked = { do: "backup", note: "before the change" } as const;
    const answer = await askDaemon(folder.path, asked, (progress) => seen.push(progress));
    assert.deepEqual(answer, { done: { noted: "before the change" } });
    assert.deepEqual(seen, [1, 2]);
  });

  test("hands on a failure with its code and its hint", async () => {
    using folder = temporaryFolder();
    await using _socket = await ControlSocket.open(folder.path, async () => {
      throw new Failure("SERVER_BUSY", "Cannot take a set: one is being taken", { hint: "Wait." });
    });
    await assert.rejects(askDaemon(folder.path, { do: "backup" }), {
      ...{ code: "SERVER_BUSY", message: "Cannot take a set: one is being taken", hint: "Wait." },
    });
  });

  test("refuses what it does not know by name, and closes on what never ends", async () => {
    using folder = temporaryFolder();
    await using _socket = await ControlSocket.open(folder.path, async () => "never");
    for (const line of ["{}\n", "no json\n", '{"do":"drop"}\n', '{"do":"backup","more":1}\n']) {
      const socket = connect(join(folder.path, "control.sock"));
      socket.write(line);
      assert.match(await text(socket), /"code":"USAGE"/);
    }
    const socket = connect(join(folder.path, "control.sock"));
    socket.on("error", () => {});
    socket.write("x".repeat(70_000));
    assert.equal(await text(socket).catch(() => ""), "");
  });

  test("takes the place of a socket that a killed one has left", async () => {
    using folder = temporaryFolder();
    writeFileSync(join(folder.path, "control.sock"), "");
    await using _socket = await ControlSocket.open(folder.path, async () => 1);
    assert.deepEqual(await askDaemon(folder.path, { do: "backup" }), { done: 1 });
  });

  test("says that it went away when it does", async () => {
    using folder = temporaryFolder();
    const asked = Promise.withResolvers<void>();
    const socket = await ControlSocket.open(folder.path, async () => {
      asked.resolve();
      return await new Promise(() => {});
    });
    const answer = askDaemon(folder.path, { do: "backup" });
    await asked.promise;
    await socket[Symbol.asyncDispose]();
    await assert.rejects(answer, { code: "SERVER_LOST" });
  });
});

test("askDaemon() gives nothing where none runs", async () => {
  using folder = temporaryFolder();
  assert.equal(await askDaemon(folder.path, { do: "backup" }), undefined);
});
