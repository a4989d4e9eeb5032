/**
 * A YAML file against a schema, with each fault named where it stands: `tidemark.yaml:12:5`.
 *
 * WHY. Whoever writes a configuration wants to know which line is wrong and what would be right, not
 * which branch of a schema did not match. All faults are told at once, up to `maxShown`.
 */
import {
  type Document,
  isMap,
  isNode,
  Lexer,
  LineCounter,
  Parser,
  parseDocument,
  visit,
} from "yaml";
import type { z } from "zod";
import { Failure } from "../base/errors.ts";

const maxShown = 10;
export const maxConfigBytes = 1024 * 1024;

type Place = { readonly line: number; readonly column: number };
type Fault = Place & { readonly found: string };

/** @throws Failure USAGE with each fault and its line and column */
export function parseYaml<Value>(text: string, path: string, schema: z.ZodType<Value>): Value {
  const lines = new LineCounter();
  mustBeShallow(text, path);
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: "error",
  });
  const placeOf = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  if (document.errors.length > 0) {
    const faults = document.errors.map(({ pos, message }) => ({
      ...placeOf(pos[0]),
      found: firstLine(message),
    }));
    throw refusal(path, faults);
  }
  if (document.contents === null) {
    throw refusal(path, [
      { ...placeOf(0), found: "it is empty: it needs repositories, and instances" },
    ]);
  }
  refuseNames(path, document, placeOf);
  const parsed = schema.safeParse(resolveAliases(document, path));
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => {
    const key = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
    const where = issue.path.map(String);
    const offset = findOffset(document.contents, where, key);
    const name = [...where, ...(key === undefined ? [] : [key])].join(".");
    return { ...placeOf(offset), found: `${name === "" ? "it" : name} ${issue.message}` };
  });
  throw refusal(path, faults);
}

/** What the parser gives is walked recursively, and a name that is a collection takes twice as long with each level. */
const maxDepth = 16;

function mustBeShallow(text: string, path: string): void {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(text)) {
    for (const _ of parser.next(lexeme)) continue;
    // The document itself is one.
    if (parser.stack.length <= maxDepth + 1) continue;
    throw refusal(path, [{ line: 1, column: 1, found: "it is nested too deeply" }]);
  }
}

/** Objects have it already, so that what is given under it is dropped, and nobody says so. */
const refusedName = "__proto__";

function refuseNames(path: string, document: Document, placeOf: (offset: number) => Place): void {
  const faults: Fault[] = [];
  visit(document, {
    Pair: (_, { key }) => {
      if (String(key) !== refusedName) return;
      const offset = isNode(key) ? (key.range?.[0] ?? 0) : 0;
      faults.push({ ...placeOf(offset), found: `${refusedName} cannot be a name` });
    },
  });
  if (faults.length > 0) throw refusal(path, faults);
}

/** As plain values. An alias of nothing, or of too much, is found only here, and without its place. */
function resolveAliases(document: Document, path: string): unknown {
  try {
    return document.toJS();
  } catch (cause) {
    const found = firstLine((cause as Error).message);
    throw refusal(path, [{ line: 1, column: 1, found }]);
  }
}

/** Where the value of a path starts; of what is missing, where that which lacks it does. */
function findOffset(root: unknown, path: readonly string[], key: string | undefined): number {
  let node = root;
  let offset = 0;
  for (const [i, part] of [...path, ...(key === undefined ? [] : [key])].entries()) {
    if (!isMap(node)) {
      const item = (node as { items?: unknown[] } | null)?.items?.[Number(part)];
      if (!isNode(item)) break;
      node = item;
      offset = item.range?.[0] ?? offset;
      continue;
    }
    const pair = node.items.find(({ key: own }) => String(own) === part);
    if (pair === undefined) break;
    if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
    const isLast = i === path.length - (key === undefined ? 1 : 0);
    if (isLast && key === undefined && isNode(pair.value) && !isMap(pair.value)) {
      offset = pair.value.range?.[0] ?? offset;
    }
    node = pair.value;
  }
  return offset;
}

function refusal(path: string, faults: readonly Fault[]): Failure {
  const shown = faults.slice(0, maxShown).map(({ line, column, found }) => {
    return `${path}:${line}:${column}: ${found}`;
  });
  const more = faults.length > maxShown ? `; and ${faults.length - maxShown} more` : "";
  return new Failure("USAGE", `Cannot use the configuration: ${shown.join("; ")}${more}`, {
    hint: "`tidemark init --example` prints a file with every setting.",
  });
}

function firstLine(text: string): string {
  const [line = ""] = text.split("\n");
  return line.charAt(0).toLowerCase() + line.slice(1);
}

/** What somebody may have meant: the known word that takes the fewest changes, if those are few. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((each) => ({ each, distance: editDistance(word.toLowerCase(), each) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  const limit = Math.max(2, Math.floor(word.length / 3));
  return best !== undefined && best.distance <= limit ? best.each : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const swap = (row[j - 1] as number) + (isSame ? 0 : 1);
      next.push(Math.min(swap, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
