import type { Slice } from "../../base/bytes.ts";
import { corrupt } from "../../base/errors.ts";
import { hungry, type Input } from "./input.ts";
import type { Layout, Piece } from "./layout.ts";
import { readFieldNames, type Templates } from "./template.ts";

/** A run of pieces that is being passed over, and how often it is still to come. */
type Run = { readonly pieces: readonly Piece[]; at: number; left: number };

const arrayElement: readonly Piece[] = ["length", "array element"];
const templateValue: readonly Piece[] = ["string"];

/**
 * Passes over one value without decoding it, in units of one piece: see `layout.ts`.
 *
 * Call `begin()`, then `finish()`, which throws `hungry` when the input runs out and goes on from
 * there when it is called again. What has been passed over is committed piece by piece, so that it
 * can be let go, or copied as it is.
 */
export class ValuePasser {
  readonly #input: Input;
  readonly #templates: Templates;
  #runs: Run[] = [];
  /** Fields of the hash by template that is being passed over. */
  #fields = 0;

  constructor(input: Input, templates: Templates) {
    this.#input = input;
    this.#templates = templates;
  }

  begin(layout: Layout): void {
    this.#runs = [{ pieces: layout.pieces, at: 0, left: 1 }];
  }

  finish(): void {
    const runs = this.#runs;
    for (let run = runs.at(-1); run; run = runs.at(-1)) {
      if (run.left === 0) {
        runs.pop();
        continue;
      }
      // The rest of the last piece comes first, else its bytes would be taken for this one.
      if (this.#input.isPassing) throw hungry;
      // Whatever gives the unit up does so in here, before anything is counted as done.
      const next = this.#pass(run.pieces[run.at] as Piece);
      this.#input.commitUnit();
      if (next !== "again" && ++run.at === run.pieces.length) {
        run.at = 0;
        run.left--;
      }
      if (typeof next === "object") runs.push(next);
    }
  }

  /** Passes over one piece. Returns the run that it opens, or "again" if there is more of it. */
  #pass(piece: Piece): Run | "again" | undefined {
    const input = this.#input;
    switch (piece) {
      case "string":
        input.passString();
        return undefined;
      case "length":
        input.length64();
        return undefined;
      case "text double":
        passTextDouble(input);
        return undefined;
      case "module":
        return passModulePart(input) ? "again" : undefined;
      case "array":
        return { pieces: arrayElement, at: 0, left: readArrayHead(input) };
      case "array element":
        passArrayElement(input);
        return undefined;
      case "template id":
        this.#fields = this.#templates.get(input.length(), input.position).length;
        return undefined;
      case "template names":
        this.#fields = readFieldNames(input).length;
        return undefined;
      case "template values":
        return { pieces: templateValue, at: 0, left: this.#fields };
      default:
        if (typeof piece === "object") return { pieces: piece.each, at: 0, left: input.length() };
        input.pass(piece);
        return undefined;
    }
  }
}

function passTextDouble(input: Input): void {
  const size = input.byte();
  if (size < 253) input.pass(size);
}

/** One tagged part of a module's value; false where it was the end mark. */
function passModulePart(input: Input): boolean {
  const opcode = readModuleOpcode(input);
  if (opcode === 5) input.passString();
  else if (opcode > 2) input.pass(opcode === 3 ? 4 : 8);
  else if (opcode > 0) input.length64();
  return opcode !== 0;
}

/** The same within a unit that holds more. */
export function readModulePart(input: Input, scratch: Slice): boolean {
  const opcode = readModuleOpcode(input);
  if (opcode === 5) input.string(scratch);
  else if (opcode > 2) input.bytes(opcode === 3 ? 4 : 8, scratch);
  else if (opcode > 0) input.length64();
  return opcode !== 0;
}

/** 0: end, 1: signed, 2: unsigned, 3: float, 4: double, 5: string. */
function readModuleOpcode(input: Input): number {
  const offset = input.position;
  const opcode = input.length();
  if (opcode > 5) throw corrupt(offset, `Opcode ${opcode} in the value of a module`);
  return opcode;
}

/** The head of an array: how many elements follow. */
export function readArrayHead(input: Input): number {
  const offset = input.position;
  const count = input.length();
  const flag = input.length();
  if (flag > 1) throw corrupt(offset, `Flag ${flag} of an array`);
  if (flag === 1) input.length64();
  return count;
}

function passArrayElement(input: Input): void {
  const offset = input.position;
  const tag = input.length();
  if (tag === 1 || tag === 2) input.pass(8);
  else if (tag === 0 || tag === 3) input.passString();
  else throw corrupt(offset, `Tag ${tag} of an array element`);
}
