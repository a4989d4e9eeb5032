import { type LeaseWaiting, leaseHint } from "../../archive/lease.ts";
import { formatTime, printable } from "../render/text.ts";

/** Says on standard error why nothing happens for up to a minute. */
export function tellOfWaiting({ holder, untilMs }: LeaseWaiting): void {
  const found = `${printable(holder)} writes there: waiting until ${formatTime(untilMs)} for a sign of life`;
  process.stderr.write(`${found}\nhint: ${leaseHint}\n`);
}
