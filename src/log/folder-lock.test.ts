import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { lockFolder } from "./folder-lock.ts";

test("lockFolder() names the holder to whoever comes second, in this process too", async () => {
  using dir = folder();
  {
    await using _ = await lockFolder(dir.path, "the first");
    const message = new RegExp(`"${dir.path}": the first, process ${process.pid} on .* does$`);
    await assert.rejects(lockFolder(dir.path, "the second"), { code: "FILE_EXISTS", message });
  }
  await using _ = await lockFolder(dir.path, "the third");
});

test("lockFolder() is let go of when its holder is killed", async () => {
  using dir = folder();
  const module = new URL("./folder-lock.ts", import.meta.url).href;
  const script = `
    import { lockFolder } from "${module}";
    await lockFolder(${JSON.stringify(dir.path)}, "another");
    console.log("locked");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  await assert.rejects(lockFolder(dir.path, "this one"), { message: /another, process/ });
  child.kill("SIGKILL");
  await once(child, "close");
  await using _ = await lockFolder(dir.path, "this one");
});

function folder() {
  const path = mkdtempSync(join(tmpdir(), "tidemark-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
