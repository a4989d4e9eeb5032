/**
 * The story of an accident, as `npm start` tells it: a shop writes to a server, somebody types FLUSHALL,
 * and a second server comes up as it was one command before. Everything is real, and gone afterwards.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { toLatin1 } from "../src/base/bytes.ts";
import { systemClock } from "../src/base/clock.ts";
import { Connection } from "../src/link/connection.ts";

const checkout = join(import.meta.dirname, "..");
const main = join(checkout, "src/cli/main.ts");
const patienceMs = 30_000;
const ordersBefore = 3000;
const ordersAfter = 200;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

let chapter = 0;

function tell(text: string): void {
  chapter++;
  say(`\n${chapter}. ${text}\n`);
}

/** A stock server: that of this machine, or one that is unpacked from Debian's packages. */
function findServer(): string {
  for (const name of ["redis-server", "valkey-server"]) {
    const { status, stdout } = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" });
    if (status === 0) return stdout.trim();
  }
  const servers = join(checkout, ".cache/servers");
  const unpacked = join(servers, "bin/redis-server-8.0");
  if (!existsSync(unpacked)) {
    say("No redis-server here: one is unpacked from Debian's packages, once (some 20 s).");
    const script = join(checkout, "scripts/real-servers.sh");
    execFileSync(script, ["-q", servers, "redis-8.0"], { stdio: "inherit" });
  }
  return unpacked;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  throw new Error(`It did not come true: ${what}`);
}

async function connect(port: number): Promise<Connection> {
  return await until(`a server on port ${port}`, async () => {
    try {
      return await Connection.open({ host: "127.0.0.1", port });
    } catch {
      return undefined;
    }
  });
}

type ShopStatus = {
  readonly sets: { readonly good: number };
  readonly windows: readonly { readonly toMs: number }[];
};

class Story implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "tidemark-accident-"));
  readonly #children: ChildProcess[] = [];

  start(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(program, args, { cwd: this.folder, stdio: ["ignore", "ignore", "pipe"] });
    this.#children.push(child);
    return child;
  }

  /** Runs a command of Tidemark as somebody would type it, and shows what it says. */
  tidemark(...args: readonly string[]): void {
    say(`   $ tidemark ${args.map((arg) => (/\s/.test(arg) ? `'${arg}'` : arg)).join(" ")}`);
    const result = this.#run(args);
    const said = result.status === 0 ? result.stdout : `${result.stdout}${result.stderr}`;
    for (const line of said.trimEnd().split("\n")) say(`   ${line}`);
    say("");
    if (result.status !== 0) throw new Error(`tidemark ${args[0]} ended with ${result.status}`);
  }

  /** What `status` says of the shop; undefined where it cannot yet. */
  shop(): ShopStatus | undefined {
    const { status, stdout } = this.#run(["status", "shop", "--json"]);
    if (status !== 0) return undefined;
    return (JSON.parse(stdout) as { instances: ShopStatus[] }).instances[0];
  }

  #run(args: readonly string[]) {
    return spawnSync(process.execPath, [main, ...args], { cwd: this.folder, encoding: "utf8" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What the shop writes: an order, and how much it has sold in all. */
async function order(shop: Connection, number: number): Promise<void> {
  const cents = 100 + ((number * 7919) % 9900);
  const fields = ["customer", `c${number % 97}`, "cents", String(cents)];
  await Promise.all([
    shop.ask("HSET", `order:${number}`, ...fields),
    shop.ask("INCRBY", "sold:cents", cents),
  ]);
}

async function trade(shop: Connection, from: number, count: number): Promise<void> {
  for (let number = from; number < from + count; number++) {
    await order(shop, number);
    if (number % 50 === 0) await sleep(10);
  }
}

async function text(shop: Connection, ...args: readonly string[]): Promise<string> {
  const reply = await shop.ask(...args);
  if (reply.type === "integer") return String(reply.value);
  return reply.type === "bulk" ? toLatin1(reply.bytes) : "nothing";
}

/** Counts the orders one by one, and adds them up. */
async function audit(shop: Connection): Promise<string> {
  let found = 0;
  let cents = 0;
  for (let number = 1; number <= ordersBefore; number++) {
    const value = Number(await text(shop, "HGET", `order:${number}`, "cents"));
    if (Number.isNaN(value)) continue;
    found++;
    cents += value;
  }
  const sold = await text(shop, "GET", "sold:cents");
  return `${await text(shop, "DBSIZE")} keys, ${found} orders of ${cents} cents, sold:cents is ${sold}`;
}

const config = (port: number) => `repositories:
  main:
    address: backups
instances:
  shop:
    source: redis://127.0.0.1:${port}
    archive_interval: 1s
`;

async function tellStory(): Promise<void> {
  const startedAtMs = performance.now();
  const program = findServer();
  await using story = new Story();
  const port = await freePort();
  mkdirSync(join(story.folder, "shop"));

  tell(`A shop runs on ${program.split("/").at(-1)}, on port ${port}. It persists nothing.`);
  const conf = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", join(story.folder, "shop")];
  const settings = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
  story.start(program, [...conf, ...settings]);
  await using shop = await connect(port);
  await trade(shop, 1, 1000);
  say(`   ${await audit(shop)}`);

  tell("Tidemark begins to follow it, from outside. Its configuration:");
  for (const line of config(port).trimEnd().split("\n")) say(`   ${line}`);
  say("");
  writeFileSync(join(story.folder, "tidemark.yaml"), config(port));
  story.tidemark("init", "backups");
  say("   $ tidemark up &");
  story.start(process.execPath, [main, "up"]);
  await until("a first set", async () => (story.shop()?.sets.good ?? 0) > 0 || undefined);

  tell("The shop goes on selling.");
  await trade(shop, 1001, ordersBefore - 1000);
  const before = await audit(shop);
  say(`   ${before}`);

  tell("Somebody types FLUSHALL. The shop does not notice, and goes on.");
  await shop.ask("FLUSHALL");
  const accidentMs = systemClock.now();
  await trade(shop, ordersBefore + 1, ordersAfter);
  say(`   ${await audit(shop)}`);
  await until("the accident is archived", async () => {
    const last = story.shop()?.windows.at(-1);
    return (last !== undefined && last.toMs >= accidentMs) || undefined;
  });

  tell("What can be restored: every moment of the recovery window.");
  story.tidemark("status", "shop");

  tell("Back to the command before it, on a second server.");
  const second = await freePort();
  const run = ["--run", program, "--port", `${second}`, "--dir", "restored"];
  story.tidemark("restore", "shop", "--at", "before:FLUSHALL", ...run);
  await using restored = await connect(second);
  const after = await audit(restored);
  await restored.call("SHUTDOWN", "NOSAVE").catch(() => {});

  say(`   before the accident  ${before}`);
  say(`   restored             ${after}`);
  if (after !== before) throw new Error("They are not the same");
  const seconds = (performance.now() - startedAtMs) / 1000;
  say(`\nAll of it is there. The story took ${seconds.toFixed(0)} s.`);
}

await tellStory();
