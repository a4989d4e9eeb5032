import { cpSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../support/folder.ts";
import { type ServerId, startServer } from "../support/servers.ts";

/** What a stock server, started on a copy of a spool, has: its DEBUG DIGEST. */
export async function digestOfSpool(id: ServerId, spool: string): Promise<string> {
  using folder = temporaryFolder();
  const log = "appendonlydir";
  cpSync(join(spool, log), join(folder.path, log), { recursive: true });
  await using reader = await startServer(id, {
    dir: folder.path,
    conf: { appendonly: "yes", "aof-load-truncated": "no" },
  });
  return await reader.debugDigest();
}
