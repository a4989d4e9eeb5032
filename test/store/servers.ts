/**
 * Object storages that others wrote, as the judges of `src/store`: Moto, and Ceph's radosgw.
 *
 * `scripts/real-servers.sh .cache/servers moto radosgw` unpacks them; the servers that the script gets
 * when it is given no names do not include them. Each listens on a free port of 127.0.0.1, keeps all it
 * has in memory or in a temporary folder, and is gone when it is disposed of, or with the test process.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { S3Credentials, S3Options } from "../../src/store/address.ts";
import { freePort } from "../link/ports.ts";
import { checkout } from "../support/checkout.ts";

const folder = resolve(process.env["TIDEMARK_SERVERS"] ?? join(checkout, ".cache/servers"));
const startLimitMs = 60_000;
const pollMs = 20;

type StorageId = "moto" | "radosgw";

export type Storage = AsyncDisposable & {
  readonly id: StorageId;
  readonly port: number;
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  /** It is there, and empty. */
  readonly bucket: string;
  readonly credentials: S3Credentials;
  /** The same for a process that is started: AWS_ACCESS_KEY_ID and so on. */
  readonly env: Readonly<Record<string, string>>;
  /** `s3://BUCKET/PREFIX?endpoint=…` */
  readonly address: (prefix: string) => string;
  /** Without waits between attempts, which tests would only sit through. */
  readonly options: (prefix: string, endpoint?: string) => S3Options;
};

/**
 * Why a test that needs this storage cannot run here, or false: it goes into the test's `skip`.
 * Throws in CI, where it has to be there.
 */
export function missingStorage(id: StorageId): string | false {
  const programs = id === "moto" ? ["moto-server"] : ["radosgw", "radosgw-admin"];
  if (programs.every((name) => existsSync(join(folder, "bin", name)))) return false;
  const reason = `${id} is not in ${folder}: run scripts/real-servers.sh .cache/servers ${id}`;
  if (/^(1|true)$/.test(process.env["CI"] ?? "")) throw new Error(reason);
  return reason;
}

/** S3 in memory. Takes any credentials. */
export async function startMoto(): Promise<Storage> {
  mustBeThere("moto");
  const dir = mkdtempSync(join(tmpdir(), "tidemark-moto-"));
  const port = await freePort();
  const args = ["-H", "127.0.0.1", "-p", String(port)];
  return await start("moto", port, dir, "moto-server", args, makeCredentials());
}

/** Ceph's gateway over a SQLite file. Checks signatures. */
export async function startRadosgw(): Promise<Storage> {
  mustBeThere("radosgw");
  const dir = mkdtempSync(join(tmpdir(), "tidemark-rgw-"));
  const port = await freePort();
  const conf = join(dir, "ceph.conf");
  const lines = [
    "[client.rgw]",
    "rgw_backend_store = dbstore",
    `dbstore_db_dir = ${dir}`,
    "rgw_config_store = dbstore",
    `dbstore_config_uri = file:${dir}/config.db`,
    `rgw_data = ${dir}`,
    `run_dir = ${dir}`,
    "admin_socket =",
    `log_file = ${dir}/log`,
    `rgw_frontends = beast endpoint=127.0.0.1:${port}`,
  ];
  writeFileSync(conf, `${lines.join("\n")}\n`);
  const credentials = makeCredentials();
  const who = ["-c", conf, "-n", "client.rgw", "--no-mon-config"];
  const keys = [
    `--access-key=${credentials.accessKeyId}`,
    `--secret-key=${credentials.secretAccessKey}`,
  ];
  const user = ["user", "create", "--uid=tidemark", "--display-name=tidemark", ...keys];
  const program = join(folder, "bin/radosgw-admin");
  // Once in some hundred times it waits for itself when it ends; by then it may have made the user.
  const options = { timeout: adminMs, killSignal: "SIGKILL" } as const;
  let made = spawnSync(program, [...who, ...user], options);
  for (let left = 2; made.signal !== null && left > 0; left--) {
    made = spawnSync(program, [...who, ...user], options);
  }
  if (made.status !== 0 && !made.stderr.includes("exists")) {
    rmSync(dir, { recursive: true, force: true });
    throw new Error(`radosgw-admin makes no user: ${made.stderr.toString()}`);
  }
  return await start("radosgw", port, dir, "radosgw", ["-f", ...who], credentials);
}

/** It takes a second or two. */
const adminMs = 30_000;

function mustBeThere(id: StorageId): void {
  const missing = missingStorage(id);
  if (missing) throw new Error(missing);
}

function makeCredentials(): S3Credentials {
  return {
    accessKeyId: `ID${randomBytes(9).toString("hex")}`,
    secretAccessKey: randomBytes(20).toString("hex"),
  };
}

const running = new Map<ChildProcess, string>();
process.on("exit", () => {
  for (const [child, dir] of running) {
    child.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  }
});
// A handler keeps the signal from ending the process, so it becomes an end that the one above sees.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

async function start(
  id: StorageId,
  port: number,
  dir: string,
  program: string,
  args: string[],
  credentials: S3Credentials,
): Promise<Storage> {
  const child = spawn(join(folder, "bin", program), args, { cwd: dir, stdio: "pipe" });
  running.set(child, dir);
  let log = "";
  const listen = (chunk: Buffer) => {
    log = (log + chunk.toString("latin1")).slice(-10_000);
  };
  child.stdout.on("data", listen);
  child.stderr.on("data", listen);
  const ended = Promise.withResolvers<void>();
  child.once("close", () => {
    running.delete(child);
    rmSync(dir, { recursive: true, force: true });
    ended.resolve();
  });
  child.once("error", () => ended.resolve());
  const stop = async () => {
    child.kill("SIGKILL");
    await ended.promise;
  };
  const endpoint = `http://127.0.0.1:${port}`;
  const bucket = "tidemark-test";
  try {
    await listening(port, () => child.exitCode !== null || child.signalCode !== null);
    await makeBucket(endpoint, bucket, credentials);
  } catch (cause) {
    await stop();
    throw new Error(`${id} does not start: ${log.slice(-1000)}`, { cause });
  }
  return {
    id,
    port,
    endpoint,
    bucket,
    credentials,
    env: {
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      AWS_REGION: "us-east-1",
    },
    address: (prefix) => `s3://${bucket}/${prefix}?endpoint=${endpoint}&region=us-east-1`,
    options: (prefix, other = endpoint) => ({
      kind: "s3",
      bucket,
      prefix,
      endpoint: other,
      region: "us-east-1",
      credentials,
      retry: { firstDelayMs: 2, maxDelayMs: 20 },
    }),
    [Symbol.asyncDispose]: stop,
  };
}

/** Neither says on a line of its own when it listens. */
async function listening(port: number, hasEnded: () => boolean): Promise<void> {
  for (let waited = 0; waited < startLimitMs; waited += pollMs) {
    if (hasEnded()) throw new Error("It has ended");
    const { promise, resolve: settle } = Promise.withResolvers<boolean>();
    const socket = connect(port, "127.0.0.1", () => settle(true));
    socket.once("error", () => settle(false));
    const isThere = await promise;
    socket.destroy();
    if (isThere) return;
    await sleep(pollMs);
  }
  throw new Error(`Nothing listens on ${port}`);
}

async function makeBucket(
  endpoint: string,
  bucket: string,
  credentials: S3Credentials,
): Promise<void> {
  const { CreateBucketCommand, S3Client } = await import("@aws-sdk/client-s3");
  const client = new S3Client({ endpoint, credentials, region: "us-east-1", forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}
