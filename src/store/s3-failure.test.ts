import assert from "node:assert/strict";
import { test } from "node:test";
import type { ErrorCode } from "../base/errors.ts";
import { s3Failure } from "./s3-failure.ts";

/** As the client gives them: a name, a message, a status. */
const cases: readonly (readonly [ErrorCode, string, string, number | undefined])[] = [
  ["OBJECT_MISSING", "NoSuchKey", "The specified key does not exist.", 404],
  ["STORE_FAILED", "NoSuchBucket", "", 404],
  ["STORE_FAILED", "NotFound", "", 404],
  ["STORE_FAILED", "PermanentRedirect", "", 301],
  ["STORE_FAILED", "AuthorizationHeaderMalformed", "the region is wrong", 400],
  ["STORE_FAILED", "InvalidRequest", "", 400],
  ["STORE_DENIED", "AccessDenied", "Access Denied", 403],
  ["STORE_DENIED", "SignatureDoesNotMatch", "", 403],
  ["STORE_DENIED", "ExpiredToken", "", 400],
  ["STORE_DENIED", "CredentialsProviderError", "Could not load credentials", undefined],
  ["STORE_UNFIT", "NotImplemented", "A header", 501],
  ["STORE_BUSY", "SlowDown", "Reduce your rate", 503],
  ["STORE_BUSY", "InternalError", "", 200],
  ["STORE_BUSY", "RequestTimeout", "", 400],
  ["STORE_BUSY", "RequestTimeTooSkewed", "", 403],
  ["STORE_BUSY", "ConditionalRequestConflict", "", 409],
  ["STORE_BUSY", "Unknown", "", 429],
  ["STORE_BUSY", "ECONNRESET", "aborted", 404],
  ["STORE_BUSY", "ECONNREFUSED", "", undefined],
  ["STORE_BUSY", "HPE_INVALID_CONSTANT", "Parse Error", undefined],
  ["STORE_BUSY", "Error", "XML parse error", 200],
  ["TLS_FAILED", "CERT_HAS_EXPIRED", "certificate has expired", undefined],
  ["TLS_FAILED", "SELF_SIGNED_CERT_IN_CHAIN", "", undefined],
  ["USAGE", "Error", "Region is missing", undefined],
];

for (const [code, name, message, status] of cases) {
  test(`s3Failure() takes ${name} with status ${status} for ${code}`, () => {
    const error = Object.assign(new Error(message), {
      name,
      $metadata: status === undefined ? {} : { httpStatusCode: status },
    });
    const failure = s3Failure("do it", error);
    assert.equal(failure.code, code);
    assert.match(failure.message, /^Cannot do it: ./);
    assert.ok(name === "Error" || failure.message.includes(message || name));
  });
}

test("s3Failure() keeps nothing of what the client knows of the request", () => {
  const error = Object.assign(new Error("no"), { AWSAccessKeyId: "ID", $response: { a: "ID" } });
  const { cause } = s3Failure("do it", error);
  assert.deepEqual(Object.keys(cause as object), ["code"]);
});

test("s3Failure() says that it was stopped, and lets a failure be", () => {
  assert.equal(s3Failure("do it", new Error("x"), AbortSignal.abort()).code, "ABORTED");
  const failure = s3Failure("do it", new Error("x"));
  assert.equal(s3Failure("do more", failure), failure);
});
