import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import { Failure } from "../base/errors.ts";
import { parseAddress } from "./address.ts";

test("parseAddress() takes a folder's path or URL", () => {
  assert.deepEqual(parseAddress("/var/backups"), { kind: "directory", path: "/var/backups" });
  assert.deepEqual(parseAddress("rel/a"), { kind: "directory", path: resolve("rel/a") });
  assert.deepEqual(parseAddress("c:x"), { kind: "directory", path: resolve("c:x") });
  assert.deepEqual(parseAddress("file:///a%20b/c"), { kind: "directory", path: "/a b/c" });
});

test("parseAddress() takes a bucket with all that tells where it is", () => {
  assert.deepEqual(parseAddress("s3://my-bucket"), {
    kind: "s3",
    bucket: "my-bucket",
    prefix: "",
    endpoint: undefined,
    region: undefined,
    pathStyle: undefined,
  });
  assert.deepEqual(
    parseAddress("s3://b.c/x/y%20z/?endpoint=https://s3.example:9000&region=eu&path-style=false"),
    {
      kind: "s3",
      bucket: "b.c",
      prefix: "x/y z",
      endpoint: "https://s3.example:9000",
      region: "eu",
      pathStyle: false,
    },
  );
});

test("parseAddress() refuses all else, and repeats no credentials", () => {
  for (const address of [
    "",
    "http://host/x",
    "s3://",
    "s3://A_B",
    "s3://bucket:9000/x",
    "s3://bucket/%zz",
    "s3://bucket?path-style=1",
    "s3://bucket?access-key=hunter2",
    "s3://bucket?endpoint=hunter2",
    "s3://bucket?endpoint=ftp://hunter2/",
    "s3://bucket?endpoint=https://id:hunter2@host",
    "s3://id:hunter2@bucket/x",
    "s3://hunter2@bucket/x",
    "file://host/x",
    "s3://bucket/../x",
    "s3://bucket/a/%2E%2e",
    "s3://bucket/./x?region=eu",
  ]) {
    assert.throws(
      () => parseAddress(address),
      (error) => {
        assert.ok(error instanceof Failure && error.code === "USAGE", address);
        return !`${error.message} ${error.hint}`.includes("hunter2");
      },
      address,
    );
  }
});
