import type { Command } from "commander";
import { type PlaceFlags, withPlace } from "./archive/place-options.ts";
import type { SetStatus } from "./status.ts";

const examples = `
Examples:
  tidemark cat instances/db1/sets/2026-11-22T03-15-00.000Z-3fa9/snapshot.rdb.zst > dump.rdb
  tidemark cat instances/db1/sets/2026-11-22T03-15-00.000Z-3fa9/manifest.json

The bytes as they were before they were compressed and encrypted. Without encryption \`zstd -d\` gives the same.`;

export function addCat(program: Command, setStatus: SetStatus): void {
  withPlace(program.command("cat"))
    .description("the plain bytes of an archived object")
    .argument("<object>", "its name in the repository")
    .addHelpText("after", examples)
    .action(async (object: string, flags: PlaceFlags) => {
      const { catObject } = await import("./archive/cat.ts");
      await catObject(object, flags);
      setStatus(0);
    });
}
