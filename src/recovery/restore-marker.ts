/**
 * The key that says, in a server, that what is there is not whole, and how far it is: see restore-server.ts.
 *
 * FORMAT. A string, JSON: { plan, phase, steps, keys, bytes, database }.
 */
import type { Connection } from "../link/connection.ts";
import { textOf } from "../link/reply-values.ts";

export const markerName = "tidemark:restore";

export type Mark = {
  /** Of what is restored, and how. */
  readonly plan: string;
  readonly phase: "keys" | "log" | "expiries";
  /** Of the data that are restored one after the other, those that are there. */
  readonly steps: number;
  /** Keys of the next ones that are there; bytes of the log that were replayed, and the database selected then. */
  readonly keys: number;
  readonly bytes: number;
  readonly database: number | null;
};

export const beginning: Omit<Mark, "plan"> = {
  ...{ phase: "keys", steps: 0, keys: 0, bytes: 0, database: null },
};

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
