/** Puts and uploads objects into a directory until it is killed, and says which are done. */
import { writeSync } from "node:fs";
import { DirectoryStore } from "../../src/store/directory.ts";
import { bytesOf, chunksOf } from "./contract.ts";

const [, , path = "", first = "0"] = process.argv;
const store = new DirectoryStore(path);
for (let i = Number(first); ; i++) {
  const bytes = bytesOf(1 + ((i * 77_773) % 2_000_000));
  const name = `kill/${i % 7}/${String(i).padStart(9, "0")}`;
  if (i % 3 === 0) await store.put(name, bytes, { ifAbsent: i % 2 === 0 });
  else await store.upload(name, chunksOf(bytes, 50_000));
  writeSync(1, `${i}\n`);
}
