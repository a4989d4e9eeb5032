import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Failure } from "../base/errors.ts";
import type { RetryOptions } from "./retry.ts";

/** Where objects lie. */
export type StoreOptions = DirectoryOptions | S3Options;

export type DirectoryOptions = { readonly kind: "directory"; readonly path: string };

export type S3Options = {
  readonly kind: "s3";
  readonly bucket: string;
  /** The beginning of all keys, without a slash at its end; empty for the whole bucket. */
  readonly prefix: string;
  /** Not given: Amazon's. */
  readonly endpoint?: string | undefined;
  /** Not given: as in the environment or the profile. */
  readonly region?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. Not given: where there is an endpoint. */
  readonly pathStyle?: boolean | undefined;
  /** Not given: the usual chain, from the environment to the machine's role. */
  readonly credentials?: S3Credentials | undefined;
  readonly retry?: Partial<RetryOptions> | undefined;
};

export type S3Credentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
};

/**
 * `DIR`, `file:///DIR` or `s3://bucket/prefix?endpoint=URL&region=NAME&path-style=true`.
 *
 * An address stands in configurations, messages and lists of processes, so it holds no credentials;
 * one that does is refused without being repeated.
 *
 * @throws Failure USAGE
 */
export function parseAddress(address: string): StoreOptions {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(address)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      if (address === "") throw refusal("it is empty");
      return { kind: "directory", path: resolve(address) };
    case "file":
      return { kind: "directory", path: pathOf(parseUrl(address)) };
    case "s3":
      // A URL parser would take them away, and another place be meant than was written.
      if (/\/(\.|%2e){1,2}(?=\/|$)/i.test(address.replace(/[?#].*$/s, ""))) {
        throw refusal('"." and ".." are no part of a prefix');
      }
      return parseS3(parseUrl(address));
    default:
      throw refusal(`"${scheme}://" is not known`);
  }
}

function parseS3(url: URL): S3Options {
  if (url.username !== "" || url.password !== "") throw refusal("it holds credentials");
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(url.hostname) || url.port !== "") {
    throw refusal(`"${url.host}" is no name of a bucket`);
  }
  const prefix = decode(url.pathname).replace(/^\/|\/$/g, "");
  let endpoint: string | undefined;
  let region: string | undefined;
  let pathStyle: boolean | undefined;
  for (const [key, value] of url.searchParams) {
    if (key === "endpoint") endpoint = checkEndpoint(value);
    else if (key === "region") region = value;
    else if (key === "path-style" && /^(true|false)$/.test(value)) pathStyle = value === "true";
    else throw refusal(`"${key}" is not known, or has a wrong value`);
  }
  return { kind: "s3", bucket: url.hostname, prefix, endpoint, region, pathStyle };
}

function checkEndpoint(text: string): string {
  const url = parseUrl(text);
  if (url.username !== "" || url.password !== "") throw refusal("its endpoint holds credentials");
  if (!/^https?:$/.test(url.protocol)) throw refusal("its endpoint is no http:// or https:// URL");
  return text;
}

function pathOf(url: URL): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw refusal("it names no local path");
  }
}

function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null) throw refusal("it is no URL");
  return url;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refusal("it has a wrong % sign");
  }
}

function refusal(found: string): Failure {
  return new Failure("USAGE", `Cannot use the address of the repository: ${found}`, {
    hint:
      "Name a folder or s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true; " +
      "credentials come from the environment, a profile or the machine's role.",
  });
}
