/** What a restore starts and makes only for itself: in cluster mode, and when the restore is killed. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { LogWriter } from "../../src/codec/aof/writer.ts";
import { RdbReader } from "../../src/codec/rdb/reader.ts";
import { findManifest, readAppendOnlyDir } from "../../src/log/append-only-dir.ts";
import { InputFile } from "../../src/log/input-file.ts";
import { ScratchServer } from "../../src/recovery/scratch-server.ts";
import { freePort } from "../link/ports.ts";
import { until } from "../link/until.ts";
import { checkout } from "../support/checkout.ts";
import { temporaryFolder } from "../support/folder.ts";
import { findServer, missingServers } from "../support/servers.ts";

const pastMs = 1_000_000_000_000;

/** A folder with a log of these commands. */
function writeLog(folder: string, commands: readonly string[]): void {
  const writer = new LogWriter();
  writer.select(0);
  for (const command of commands)
    writer.record(command.split(" ").map((word) => Buffer.from(word)));
  const path = join(folder, "appendonlydir");
  mkdirSync(path);
  writeFileSync(join(path, "appendonly.aof.1.incr.aof"), writer.take());
  const manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
  writeFileSync(join(path, "appendonly.aof.manifest"), manifest);
}

function keysIn(path: string): string[] {
  using file = InputFile.open(path);
  const reader = new RdbReader();
  const keys: string[] = [];
  for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
    reader.push(chunk);
    for (let event = reader.next(); event; event = reader.next()) {
      if (event !== "key") continue;
      keys.push(reader.key.latin1());
      reader.skip();
    }
  }
  return keys.sort();
}

for (const id of ["redis-6.0", "redis-7.0", "redis-8.0", "valkey-8.1", "valkey-9"] as const) {
  test(`a scratch server of ${id} in cluster mode keeps what has expired, and executes what is about slots`, {
    skip: missingServers(id),
  }, async () => {
    using folder = temporaryFolder();
    const program = findServer(id)?.bin.server;
    assert.ok(program);
    // "foo" and "{foo}1" are in slot 12182.
    const commands = [
      ...["SET foo 1", "SET {foo}1 1", "SET bar 1", "SET expired v", `PEXPIREAT expired ${pastMs}`],
      ...(id === "valkey-9" ? ["CLUSTER FLUSHSLOT 12182", "SET {foo}2 1"] : []),
    ];
    writeLog(folder.path, commands);
    const log = readAppendOnlyDir(findManifest(folder.path));
    const source =
      id === "redis-6.0"
        ? ({ kind: "aof", path: log.files[0]?.path ?? "" } as const)
        : ({ kind: "appendonlydir", log } as const);
    let clusterPort = 0;
    while (clusterPort < 12_000) clusterPort = await freePort();
    using server = ScratchServer.start(program, source, { clusterPort, parent: folder.path });
    const kept = id === "valkey-9" ? ["{foo}2"] : ["foo", "{foo}1"];
    assert.deepEqual(keysIn(await server.snapshot()), ["bar", "expired", ...kept].sort());
  });
}

/** A program of its own, which starts to replay a log and says when all of it stands. */
const replaying = `
import { systemClock } from "${checkout}/src/base/clock.ts";
import { findManifest, readAppendOnlyDir } from "${checkout}/src/log/append-only-dir.ts";
import { ScratchFolder } from "${checkout}/src/recovery/scratch-folder.ts";
import { ScratchServer } from "${checkout}/src/recovery/scratch-server.ts";
const [program, path] = process.argv.slice(-2);
const folder = await ScratchFolder.open(systemClock.now());
const log = readAppendOnlyDir(findManifest(path));
const server = ScratchServer.start(program, { kind: "appendonlydir", log }, { parent: folder.path });
await server.snapshot();
console.log("ready");
setInterval(() => {}, 1000);
`;

const sweeping = `
import { systemClock } from "${checkout}/src/base/clock.ts";
import { ScratchFolder } from "${checkout}/src/recovery/scratch-folder.ts";
await using _ = await ScratchFolder.open(systemClock.now());
`;

function run(code: string, scratch: string, ...args: string[]) {
  return spawn(process.execPath, ["--input-type=module", "-e", code, "--", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, TMPDIR: scratch },
    detached: true,
  });
}

for (const isGroup of [false, true]) {
  test(`a scratch server and its folders are gone when ${isGroup ? "all of its group is" : "its program was"} killed`, {
    skip: missingServers("redis-7.0"),
  }, async () => {
    using folder = temporaryFolder();
    const scratch = join(folder.path, "t");
    mkdirSync(scratch);
    writeLog(folder.path, ["SET a 1"]);
    const program = findServer("redis-7.0")?.bin.server ?? "";
    const child = run(replaying, scratch, program, folder.path);
    await once(child.stdout, "data");
    const [name = ""] = readdirSync(scratch);
    const [own = ""] = readdirSync(join(scratch, name)).filter((each) => each.startsWith("r-"));
    const socket = join(scratch, name, own, "socket");
    assert.ok(existsSync(socket));
    process.kill(isGroup ? -(child.pid ?? 0) : (child.pid ?? 0), "SIGKILL");
    await once(child, "close");
    // Without a lock file, it might be one that is just being made.
    mkdirSync(join(scratch, "tidemark-restore-old"));
    mkdirSync(join(scratch, "tidemark-restore-new"));
    const oldS = systemClock.now() / 1000 - 3600;
    utimesSync(join(scratch, "tidemark-restore-old"), oldS, oldS);
    if (!isGroup) {
      await until("the server has ended", () => Promise.resolve(!existsSync(join(socket, ".."))));
    }
    await once(run(sweeping, scratch), "close");
    assert.deepEqual(readdirSync(scratch), ["tidemark-restore-new"]);
  });
}

test("a sweep ends a server that outlived its program", {
  skip: missingServers("redis-7.0"),
}, async () => {
  using folder = temporaryFolder();
  const scratch = join(folder.path, "t");
  const orphaned = join(scratch, "tidemark-restore-1", "r-1");
  mkdirSync(orphaned, { recursive: true });
  writeFileSync(join(scratch, "tidemark-restore-1", "spool.lock"), "");
  const program = findServer("redis-7.0")?.bin.server ?? "";
  const socket = join(orphaned, "socket");
  const args = ["--port", "0", "--unixsocket", socket, "--save", ""];
  const server = spawn(program, args, { cwd: orphaned, stdio: "ignore" });
  const ended = once(server, "exit");
  await until("it listens", () => Promise.resolve(existsSync(socket)));
  await once(run(sweeping, scratch), "close");
  await ended;
  assert.deepEqual(readdirSync(scratch), []);
});
