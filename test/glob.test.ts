import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Slice } from "../src/base/bytes.ts";
import { Glob } from "../src/base/glob.ts";
import { missingServers, startServer } from "./support/servers.ts";

/** No bytes above ASCII: see Glob about ranges. */
const pieces = fc.constantFrom("a", "b", "c", "-", "]", "^", "\\", "*", "?", "[");
const texts = fc.array(pieces, { maxLength: 7 }).map((all) => all.join(""));

for (const id of ["redis-6.0", "redis-8.0", "valkey-9"] as const) {
  test(`Glob chooses the keys that KEYS of ${id} does`, { skip: missingServers(id) }, async () => {
    await using server = await startServer(id);
    // A server's KEYS says of an empty key that it matches "*", and of "**" that it does not.
    const keys = [...new Set(fc.sample(texts, { numRuns: 500, seed: 1 }))].filter(
      (key) => key !== "",
    );
    await server.client.pipeline(keys.map((key) => ["SET", key, ""] as const));
    const run = async (pattern: string) => {
      const found = (await server.call("KEYS", pattern)) as Buffer[];
      const glob = new Glob(pattern);
      const slice = new Slice();
      const ours = keys.filter((key) => {
        const bytes = Buffer.from(key);
        slice.set(bytes, 0, bytes.length);
        return glob.matches(slice);
      });
      assert.deepEqual(ours.sort(), found.map(String).sort());
    };
    await fc.assert(fc.asyncProperty(texts, run), { numRuns: 1000 });
  });
}
