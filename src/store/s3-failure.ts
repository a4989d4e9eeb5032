/**
 * What an S3 storage or the way to it said, as a failure of ours.
 *
 * Whatever is not known to be final counts as busy: no answer at all, an answer that was cut or is
 * not XML, and every 5xx but "not implemented". Wrong credentials, names and certificates are final.
 *
 * The client's own error objects are not kept as a cause: they carry the signed request, and with
 * some storages the key's id.
 */
import { Failure } from "../base/errors.ts";
import { aborted } from "./retry.ts";

export type Said = {
  /** "SlowDown", "ECONNRESET": of the storage, the client or the system. */
  readonly name: string;
  readonly message: string;
  /** Of HTTP; undefined where no answer came. */
  readonly status: number | undefined;
};

export function saidBy(error: unknown): Said {
  const {
    name = "Error",
    message = "",
    code,
    Code,
    $metadata,
  } = error as {
    name?: string;
    message?: string;
    code?: unknown;
    Code?: unknown;
    $metadata?: { httpStatusCode?: number };
  };
  const known = [Code, code].find((word) => typeof word === "string" && word !== "");
  return {
    name: (known as string | undefined) ?? name,
    message: message.split("\n")[0] ?? "",
    status: $metadata?.httpStatusCode,
  };
}

export function s3Failure(doing: string, error: unknown, signal?: AbortSignal): Failure {
  if (error instanceof Failure) return error;
  if (signal?.aborted) return aborted(doing);
  const said = saidBy(error);
  const text = `Cannot ${doing}: ${describe(said)}`;
  const cause = Object.assign(new Error(describe(said)), { code: said.name });
  for (const [code, isMeant, hint] of meanings) {
    if (isMeant(said)) return new Failure(code, text, { cause, ...(hint ? { hint } : {}) });
  }
  return new Failure("STORE_FAILED", text, { cause });
}

function describe({ name, message, status }: Said): string {
  const meansNothing = message === "" || message === "UnknownError" || message.includes(name);
  const words = meansNothing ? message.replace("UnknownError", "") || name : `${name}, ${message}`;
  return status === undefined ? words : `${words} (HTTP ${status})`;
}

type Meaning = readonly [
  code: Failure["code"],
  isMeant: (said: Said) => boolean,
  hint?: string | undefined,
];

const busyNames =
  /^(SlowDown|Throttl\w*|RequestThrottled|TooManyRequests\w*|RequestLimitExceeded|RequestTimeout|InternalError|ServiceUnavailable|OperationAborted|ConditionalRequestConflict|RequestTimeTooSkewed|RequestTimeoutException)$/;
const deniedNames =
  /^(AccessDenied|AllAccessDisabled|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired|CredentialsProviderError|TokenProviderError|Unauthorized)$/;
const tlsNames =
  /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL|HOSTNAME_MISMATCH|EPROTO)/;

/** Of the connection: an answer that was cut has a status all the same. */
const brokenNames = /^(E[A-Z]+|ERR_\w+|HPE_\w+|AbortError|TimeoutError)$/;

/** The first that is meant counts. */
const meanings: readonly Meaning[] = [
  ["OBJECT_MISSING", ({ name }) => name === "NoSuchKey"],
  ["STORE_FAILED", ({ name }) => name === "NoSuchBucket", "Make the bucket, or check its name."],
  ["STORE_DENIED", ({ name }) => deniedNames.test(name)],
  ["STORE_BUSY", ({ name }) => busyNames.test(name)],
  [
    "STORE_FAILED",
    ({ name, status }) =>
      status === 301 || status === 307 || /^(PermanentRedirect|AuthorizationHeader)/.test(name),
    "Check the region and the endpoint of the bucket.",
  ],
  [
    "USAGE",
    ({ name, message }) => name === "Error" && /Region is missing/i.test(message),
    "Add region=NAME to the address, or set AWS_REGION.",
  ],
  ["TLS_FAILED", ({ name, status }) => status === undefined && tlsNames.test(name)],
  ["STORE_BUSY", ({ name }) => brokenNames.test(name)],
  ["STORE_DENIED", ({ status }) => status === 401 || status === 403],
  ["STORE_UNFIT", ({ name, status }) => name === "NotImplemented" || status === 501],
  ["STORE_BUSY", ({ status }) => status === undefined || status < 300 || status >= 500],
  ["STORE_BUSY", ({ status }) => status === 408 || status === 429],
];
