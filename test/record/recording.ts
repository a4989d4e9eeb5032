/** A recorder as its users run it: a process, and what it says of itself. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askStatus, type Status } from "../../src/record/status.ts";
import { checkout } from "../support/checkout.ts";

const patienceMs = 30_000;

export class Recording implements AsyncDisposable {
  readonly spool: string;
  readonly process: ChildProcess;
  /** The end of what it wrote on standard error. */
  said = "";

  constructor(address: string, spool: string, flags: readonly string[] = []) {
    this.spool = spool;
    const args = [
      join(checkout, process.env["TIDEMARK_MAIN"] ?? "src/cli/main.ts"),
      "record",
      address,
      spool,
      ...flags,
    ];
    this.process = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr?.on("data", (chunk: Buffer) => {
      this.said = (this.said + chunk.toString()).slice(-8000);
    });
  }

  /** Waits until its status is so. */
  async until(isSo: (status: Status) => boolean): Promise<Status> {
    let last: Status | undefined;
    for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(20)) {
      last = await askStatus(this.spool).catch(() => undefined);
      if (last && isSo(last)) return last;
      if (this.process.exitCode !== null) throw new Error(`The recorder has ended: ${this.said}`);
    }
    throw new Error(`It never was so: ${JSON.stringify(last)}\n${this.said}`);
  }

  /** Ends it, and returns its exit code: null where the signal ended it. */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | null> {
    const { process: child } = this;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, "exit");
    }
    return child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }
}
