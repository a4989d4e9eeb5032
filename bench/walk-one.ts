/**
 * One walk over an RDB, as its own process, for `rdb-walk.ts` to time:
 *
 *   walk    every key and value        skip    every key, values passed over
 *
 * Built code is measured: `node bench/walk-one.ts` on sources would time the compiler too.
 */
import { ChecksumThread } from "../src/log/checksum-thread.ts";
import { InputFile } from "../src/log/input-file.ts";
import { RdbReader } from "../src/rdb.ts";

const [path = "", mode = "walk"] = process.argv.slice(2);
const reader = new RdbReader();
const { first } = reader.parts;
let keys = 0;
let bytes = 0;

using file = InputFile.open(path);
await using thread = new ChecksumThread(path, file.stats.size);
reader.deferChecksum(thread.start);
for (let chunk = file.read(); chunk.length > 0; chunk = file.read()) {
  reader.push(chunk);
  for (let event = reader.next(); event; event = reader.next()) {
    if (event === "key") {
      keys++;
      bytes += reader.key.length;
      if (mode === "skip") reader.skip();
    } else if (event === "string" || event === "element") {
      bytes += first.length;
    }
  }
}
reader.finish();
reader.confirmChecksum(await thread.sum(reader.checksumAt));
console.log(keys, bytes, reader.isChecked);
