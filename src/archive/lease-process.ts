/** Which process this is, and whether another one of the same machine still runs. */
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

export type Here = {
  readonly host: string;
  /**
   * This boot of this machine, and this container of it: where it is the same, numbers of processes mean
   * the same. Null where the system does not tell.
   */
  readonly machine: string | null;
  readonly process: number;
  readonly isRunning: (process: number) => boolean;
};

export const systemHere: Here = {
  host: hostname(),
  machine: readMachine(),
  process: process.pid,
  isRunning,
};

/** Linux tells it. A copy of a disk, and a machine that was started again, have another boot. */
function readMachine(): string | null {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    // Another system: nothing is believed about other processes, and their leases run out.
    return null;
  }
}

function isRunning(number: number): boolean {
  try {
    process.kill(number, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
