/**
 * Addresses of servers, as users write them.
 *
 * FORMAT
 *
 *   redis://[user[:password]@]host[:port][/database]       one server; "rediss" with TLS
 *   unix://[user[:password]@]/path/of/socket               one server; "redis+unix" is the same
 *   sentinel://[user[:password]@]host[:port],…/name        a master by its name; port 26379
 *   cluster://[user[:password]@]host[:port],…              a cluster; also redis://…?cluster=true
 *   ?tls=true                                              behind the latter two: with TLS
 *
 * The login is that of the data servers, also where Sentinels are named. User and password are
 * percent-encoded; a password with `@`, `/`, `?` or `#` in it is understood as it stands, since all
 * before the last "@" is the login.
 *
 * INVARIANT. No message repeats a part of an address in which a password may stand: one that is
 * mistyped turns up as a port.
 *
 * REJECTED. The `URL` class: it knows no lists of hosts, and its errors quote the whole address.
 */
import { isIPv6 } from "node:net";
import { Failure } from "../base/errors.ts";
import { type Credentials, Secret } from "./secret.ts";

/** Where a server listens. */
export type HostPort = { readonly host: string; readonly port: number };
export type Endpoint = HostPort | { readonly path: string };

/** What of the login an address holds. */
export type Login = { readonly user?: string; readonly password?: Secret };

type Common = { readonly isTls: boolean; readonly login: Login };
export type ServerAddress = Common & {
  readonly kind: "server";
  readonly endpoint: Endpoint;
  readonly database: number;
};
export type SentinelAddress = Common & {
  readonly kind: "sentinel";
  readonly sentinels: readonly HostPort[];
  /** The name under which the Sentinels know the master. */
  readonly master: string;
};
export type ClusterAddress = Common & {
  readonly kind: "cluster";
  readonly seeds: readonly HostPort[];
};
export type Address = ServerAddress | SentinelAddress | ClusterAddress;

const defaultPort = 6379;
const sentinelPort = 26379;
const maxDatabase = 2 ** 31 - 1;
const maxHosts = 1000;

const examples = {
  server: "Write it as redis://user:password@host:6379/0, or rediss:// for TLS.",
  unix: "Write it as unix:///path/of/redis.sock.",
  sentinel: "Write it as sentinel://user:password@host1:26379,host2,host3/mymaster.",
  cluster: "Write it as cluster://user:password@host1:6379,host2.",
};
type Form = keyof typeof examples;

const schemes: ReadonlyMap<string, { readonly form: Form; readonly isTls?: true }> = new Map([
  ["redis", { form: "server" }],
  ["valkey", { form: "server" }],
  ["rediss", { form: "server", isTls: true }],
  ["valkeys", { form: "server", isTls: true }],
  ["unix", { form: "unix" }],
  ["redis+unix", { form: "unix" }],
  ["sentinel", { form: "sentinel" }],
  ["cluster", { form: "cluster" }],
]);

/** @throws Failure USAGE */
export function parseAddress(text: string): Address {
  const [, scheme = "", rest = ""] = /^([a-z+]+):\/\/(.*)$/is.exec(text) ?? [];
  const known = schemes.get(scheme.toLowerCase());
  if (known === undefined) {
    const names = [...schemes.keys()].join(", ");
    const found = scheme === "" ? "it does not start with" : `"${scheme}" is none of`;
    throw wrong(`${found} a known scheme (${names})`, "server");
  }
  const { form } = known;
  const { login, place } = splitLogin(rest, form);
  const [body = "", ...queries] = place.split("?");
  const flags = readFlags(queries.join("?"), form);
  const common = { isTls: known.isTls === true || flags.has("tls"), login };
  if (form === "unix") {
    if (!body.startsWith("/")) throw wrong("the path of the socket does not start with /", form);
    return { kind: "server", endpoint: { path: decode(body, form) }, database: 0, ...common };
  }
  const slash = body.indexOf("/");
  const hosts = slash < 0 ? body : body.slice(0, slash);
  const path = slash < 0 ? "" : body.slice(slash + 1);
  if (form === "cluster" || flags.has("cluster")) {
    if (path !== "" && path !== "0") throw wrong("a cluster has no databases", "cluster");
    return { kind: "cluster", seeds: readHosts(hosts, defaultPort, "cluster"), ...common };
  }
  if (form === "sentinel") {
    const master = decode(path, form);
    if (!/^[\w.-]+$/.test(master)) throw wrong("the name of the master is missing", form);
    return { kind: form, sentinels: readHosts(hosts, sentinelPort, form), master, ...common };
  }
  const [endpoint, ...more] = readHosts(hosts, defaultPort, form);
  if (endpoint === undefined || more.length > 0) {
    throw new Failure("USAGE", "Cannot read the address: it has several hosts", {
      hint: "Write cluster://host1,host2 or sentinel://host1,host2/mymaster.",
    });
  }
  return { kind: "server", endpoint, database: readDatabase(path), ...common };
}

/** An address for people, without the login. */
export function formatAddress(address: Address): string {
  const suffix = address.isTls ? "?tls=true" : "";
  switch (address.kind) {
    case "server": {
      const { endpoint, database } = address;
      if ("path" in endpoint) return `unix://${endpoint.path}`;
      const scheme = address.isTls ? "rediss" : "redis";
      return `${scheme}://${formatEndpoint(endpoint)}${database > 0 ? `/${database}` : ""}`;
    }
    case "sentinel": {
      const hosts = address.sentinels.map(formatEndpoint).join(",");
      return `sentinel://${hosts}/${address.master}${suffix}`;
    }
    case "cluster":
      return `cluster://${address.seeds.map(formatEndpoint).join(",")}${suffix}`;
  }
}

/** As in `db.example:6379`, `[::1]:6379` or `/run/redis.sock`. It names the endpoint in maps too. */
export function formatEndpoint(endpoint: Endpoint): string {
  if ("path" in endpoint) return endpoint.path;
  const { host, port } = endpoint;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * The login of an address, and what was given beside it, which goes first: undefined where there
 * is none. @throws Failure USAGE where there is a user but no password
 */
export function credentialsOf(login: Login, given: Login = {}): Credentials | undefined {
  const user = given.user ?? login.user;
  const password = given.password ?? login.password;
  if (password !== undefined) return { user, password };
  if (user === undefined) return undefined;
  throw new Failure("USAGE", "Cannot log in: there is a user but no password", {
    hint: "Write redis://:password@host for a password alone, or add --password-file FILE.",
  });
}

function wrong(found: string, form: Form): Failure {
  return new Failure("USAGE", `Cannot read the address: ${found}`, { hint: examples[form] });
}

function splitLogin(rest: string, form: Form): { login: Login; place: string } {
  const at = rest.lastIndexOf("@");
  // A path may hold an "@" as well.
  if (at < 0 || (form === "unix" && rest.startsWith("/"))) return { login: {}, place: rest };
  const [user = "", ...parts] = rest.slice(0, at).split(":");
  const password = parts.join(":");
  const login = {
    ...(user !== "" && { user: decode(user, form) }),
    ...(password !== "" && { password: Secret.text(decode(password, form)) }),
  };
  return { login, place: rest.slice(at + 1) };
}

/** Options behind the "?" that are true. */
function readFlags(query: string, form: Form): ReadonlySet<string> {
  const flags = new Set<string>();
  const known = { server: ["cluster"], unix: [], sentinel: ["tls"], cluster: ["tls"] }[form];
  for (const part of query.split("&").filter(Boolean)) {
    const [, name = "", value] = /^([a-z]+)=(true|false)$/.exec(part) ?? [];
    if (!known.some((flag) => flag === name)) {
      const options = known.map((flag) => `${flag}=true`).join(", ") || "none";
      throw wrong(`behind "?" stands something unknown (known is: ${options})`, form);
    }
    if (value === "true") flags.add(name);
  }
  return flags;
}

function readHosts(text: string, port: number, form: Form): HostPort[] {
  const hosts = text.split(",");
  if (hosts.length > maxHosts) throw wrong(`it has more than ${maxHosts} hosts`, form);
  return hosts.map((host) => readHost(host, port, form));
}

function readHost(text: string, otherwise: number, form: Form): HostPort {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]\s]*))(?::(.*))?$/s.exec(text);
  const [, six, name, portText] = match ?? [];
  const host = six ?? name ?? "";
  if (match === null) throw wrong("a host is not a name, an IPv4 address or an [IPv6] one", form);
  if (host === "") throw wrong("a host is missing", form);
  if (six !== undefined && !isIPv6(six)) throw wrong("in [ ] stands no IPv6 address", form);
  if (portText === undefined) return { host, port: otherwise };
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : 0;
  if (port < 1 || port > 65535) throw wrong("a port is no number from 1 to 65535", form);
  return { host, port };
}

function readDatabase(path: string): number {
  if (path === "") return 0;
  const database = /^\d{1,10}$/.test(path) ? Number(path) : maxDatabase + 1;
  if (database > maxDatabase)
    throw wrong("behind the host stands no number of a database", "server");
  return database;
}

function decode(text: string, form: Form): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong("a % in it is not followed by two hexadecimal digits (write %25 for %)", form);
  }
}
