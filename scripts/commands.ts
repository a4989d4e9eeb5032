/**
 * Makes `src/codec/commands/table.ts` from `scripts/write-commands.jsonl`, which lists every command
 * that a log can hold, one a line, with where its keys stand.
 *
 *     node scripts/commands.ts && npx biome check --write src/codec/commands/table.ts
 */
import { readFileSync, writeFileSync } from "node:fs";

type Place =
  | "all"
  | "db"
  | "slots"
  | { readonly arg: number }
  | { readonly range: { readonly from: number; readonly to: number; readonly step: number } }
  | { readonly numkeys: { readonly at: number; readonly first: number; readonly step: number } }
  | { readonly option: { readonly keywords: readonly string[]; readonly from: number } }
  | { readonly restAfter: { readonly keyword: string; readonly from: number } }
  | { readonly streams: { readonly keyword: string } }
  | { readonly pattern: unknown };

type Command = {
  readonly name: string;
  readonly keys: { readonly write: readonly Place[]; readonly read: readonly Place[] };
  readonly crossKey: string;
};

const source = new URL("write-commands.jsonl", import.meta.url);
const target = new URL("../src/codec/commands/table.ts", import.meta.url);
const lines = readFileSync(source, "utf8").trimEnd().split("\n");
const commands = lines.map((line) => JSON.parse(line) as Command);

function show(place: Place): string {
  if (typeof place === "string") return JSON.stringify(place);
  if ("arg" in place) return String(place.arg);
  if ("range" in place) return shape({ ...place.range });
  if ("numkeys" in place) {
    const { at, first, step } = place.numkeys;
    return shape({ count: at, first, step });
  }
  if ("option" in place) return shape({ option: place.option.keywords, from: place.option.from });
  if ("restAfter" in place) {
    return shape({ rest: place.restAfter.keyword, from: place.restAfter.from });
  }
  // The ids behind the streams' keys are taken for keys too: see KeyPlace.
  if ("streams" in place) return shape({ rest: place.streams.keyword, from: 1 });
  return '"pattern"';
}

function shape(fields: Readonly<Record<string, unknown>>): string {
  const parts = Object.entries(fields).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return `{ ${parts.join(", ")} }`;
}

const rows = commands.map(({ name, keys, crossKey }) => {
  const [write, read] = [keys.write, keys.read].map((places) => places.map(show).join(", "));
  const reads = read === "" ? "" : `, read: [${read}]`;
  return `  { name: ${JSON.stringify(name)}, kind: ${JSON.stringify(crossKey)}, write: [${write}]${reads} },`;
});

writeFileSync(
  target,
  `/** Made by \`scripts/commands.ts\` from \`scripts/write-commands.jsonl\`: change those. */
import type { WriteCommand } from "./command-keys.ts";

export const writeCommands: readonly WriteCommand[] = [
${rows.join("\n")}
];
`,
);
