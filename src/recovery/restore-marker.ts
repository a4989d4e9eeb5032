/**
 * The key that says, in a server, that what is there is not whole, and how far it is: see restore-server.ts.
 *
 * FORMAT. A string, JSON: { plan, phase, steps, keys, bytes, database, good?, isRepeatable?, errors?, isInside?, failure? }.
 */
import { Slice } from "../base/bytes.ts";
import { Failure } from "../base/errors.ts";
import type { Connection } from "../link/connection.ts";
import { textOf } from "../link/reply-values.ts";

export const markerName = "tidemark:restore";

export type Mark = {
  /** Of what is restored, and how. */
  readonly plan: string;
  readonly phase: "keys" | "log" | "expiries" | "failed";
  /** Of the data that are restored one after the other, those that are there. */
  readonly steps: number;
  /** Keys of the next ones that are there; bytes of the log that were replayed, and the database selected then. */
  readonly keys: number;
  readonly bytes: number;
  readonly database: number | null;
  /** Of the log: up to where every reply was seen, and whether all behind that may be done again. */
  readonly good?: { readonly bytes: number; readonly database: number | null };
  readonly isRepeatable?: boolean;
  /** Of a server: how many errors it had answered when all were known, if it says so. See restore-window.ts. */
  readonly errors?: string | null;
  /** What is restored lies inside of another restore, as far as it has been read: see restore-inside.ts. */
  readonly isInside?: boolean;
  /** What the server said to a command of the log, where that cannot be gone on behind. */
  readonly failure?: string;
};

export const beginning: Omit<Mark, "plan"> = {
  ...{ phase: "keys", steps: 0, keys: 0, bytes: 0, database: null },
};

/** Said of what was restored, where the mark of a restore is found to stand at that moment. */
export const insideNote =
  "this moment lies inside of a restore that was recorded: what was restored is no more whole than the instance was then";

type Marked = { readonly control: Connection; readonly marker: string };

/** What each of some servers says; undefined where there is no marker. */
export async function readMarks(nodes: readonly Marked[]): Promise<(Mark | undefined)[]> {
  const marks: (Mark | undefined)[] = [];
  for (const { control, marker } of nodes) {
    const text = textOf(await control.ask("GET", marker));
    marks.push(text === undefined ? undefined : parseMark(text));
  }
  return marks;
}

/** What a key of the data that is called as the marker leads to: it would be overwritten, and deleted. */
export function markerTaken(marker: string): Failure {
  const found =
    "it is one of the data, and a restore marks what is not whole by a key of that name";
  return new Failure("TARGET_CANNOT_HOLD", `Cannot restore key "${marker}": ${found}`, {
    hint: `Leave it out, --exclude '${marker}', or put something in front of all keys: --prefix-add.`,
  });
}

/** Whether a value is that of a marker, of whatever restore. */
export function isMark(value: string): boolean {
  return parseMark(value).plan !== "";
}

type Arguments = {
  readonly argc: number;
  argument(index: number, slice: Slice): boolean;
};

/** Whether a record sets or removes the marker as a restore does. */
export function isMarkRecord(record: Arguments, marker: string): boolean {
  const textAt = (index: number) => {
    const slice = new Slice();
    return record.argument(index, slice) ? slice.latin1() : "";
  };
  const name = textAt(0).toUpperCase();
  if (textAt(1) !== marker) return false;
  if (name === "SET") return record.argc === 3 && isMark(textAt(2));
  return (name === "DEL" || name === "UNLINK") && record.argc === 2;
}

/** Whatever it is, if it is no mark of ours it is nothing that could be gone on with. */
function parseMark(text: string): Mark {
  try {
    const mark = JSON.parse(text) as Omit<Mark, "steps"> & Partial<Mark>;
    const { steps = 0, keys, bytes } = mark;
    const isSound = [steps, keys, bytes].every(Number.isSafeInteger);
    if (typeof mark.plan === "string" && isSound) return { ...mark, steps };
  } catch {
    // Told below.
  }
  return { plan: "", ...beginning };
}
