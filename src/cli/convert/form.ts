import { toLatin1 } from "../../base/bytes.ts";
import { Failure } from "../../base/errors.ts";
import type { Target } from "../../codec/rdb/model.ts";
import { RdbReader } from "../../codec/rdb/reader.ts";

/** What can be written. `aof` is one file, `appendonlydir` a folder of several. */
export const forms = ["rdb", "appendonlydir", "aof", "resp", "jsonl"] as const;
export type Form = (typeof forms)[number];

const extensions: Readonly<Record<string, Form>> = {
  rdb: "rdb",
  aof: "aof",
  resp: "resp",
  jsonl: "jsonl",
};

/** The form that a name asks for. */
export function formOf(output: string): Form {
  if (output === "-") {
    throw new Failure("USAGE", "Cannot tell what to write to standard output", {
      hint: `Add --to with one of: ${forms.filter((form) => form !== "appendonlydir").join(", ")}.`,
    });
  }
  const extension = /\.([a-z]+)$/i.exec(output)?.[1]?.toLowerCase();
  if (extension === undefined) return "appendonlydir";
  const form = extensions[extension];
  if (form) return form;
  throw new Failure("USAGE", `Cannot tell what to write from the name "${output}"`, {
    hint: `Add --to with one of: ${forms.join(", ")}.`,
  });
}

/** The target that a file's own server is, given its first bytes: a conversion back loads there. */
export function targetOf(head: Uint8Array): Target {
  const reader = new RdbReader();
  const { first } = reader.parts;
  let isValkey = false;
  try {
    reader.push(head);
    for (let event = reader.next(); event === "aux"; event = reader.next()) {
      if (toLatin1(first.view()).toLowerCase() === "valkey-ver") isValkey = true;
    }
  } catch (error) {
    // Reading it will tell what is wrong; until then any target will do.
    if (!(error instanceof Failure)) throw error;
  }
  if (reader.family === "valkey") return "valkey:9";
  if (reader.version <= 9) return "redis:6.0";
  if (reader.version === 10) return "redis:7.0";
  if (reader.version === 11) return isValkey ? "valkey:8" : "redis:7.2";
  return "redis:8";
}
