import assert from "node:assert/strict";
import { test } from "node:test";
import { RespEncoder } from "../codec/resp/encode.ts";
import { OldRecords } from "./restore-old-records.ts";

function encode(...commands: string[]): Buffer {
  const encoder = new RespEncoder();
  for (const command of commands) encoder.command(...command.split(" "));
  return Buffer.from(encoder.take());
}

test("OldRecords gives records without annotations, and a time of SET as a command of its own", () => {
  const log = Buffer.concat([
    Buffer.from("#TS:1\r\n"),
    encode("SET a 1 PXAT 123", "SET a PXAT 1", "MULTI", "set b 2 NX pxat 5", "EXEC"),
    Buffer.from("#TS:2\r\n"),
    encode("DEL a"),
  ]);
  const wanted = encode(
    ...["SET a 1", "PEXPIREAT a 123", "SET a PXAT 1", "MULTI", "set b 2 NX", "PEXPIREAT b 5"],
    ...["EXEC", "DEL a"],
  );
  for (const size of [1, 7, log.length]) {
    const records = new OldRecords();
    const parts: Uint8Array[] = [];
    for (let at = 0; at < log.length; at += size) {
      parts.push(Uint8Array.from(records.push(log.subarray(at, at + size))));
    }
    records.finish();
    assert.equal(Buffer.concat(parts).toString(), wanted.toString());
  }
});

test("OldRecords refuses a log that ends inside a record or a transaction", () => {
  for (const log of [encode("DEL a").subarray(0, 9), encode("MULTI", "DEL a")]) {
    const records = new OldRecords();
    records.push(log);
    assert.throws(() => records.finish(), { code: "DATA_TORN" });
  }
});
