import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { credentialsOf, formatAddress, parseAddress } from "./address.ts";
import { Secret } from "./secret.ts";

/** What an address says, with the password in the clear. */
async function parse(text: string) {
  const { login, ...rest } = parseAddress(text);
  const password = await login.password?.reveal();
  return {
    ...rest,
    ...(login.user !== undefined && { user: login.user }),
    ...(password !== undefined && { password }),
  };
}

const host = (name: string, port = 6379) => ({ host: name, port });
const server = { kind: "server", isTls: false, database: 0 };

suite("parseAddress()", () => {
  const forms: [text: string, address: object][] = [
    ["redis://localhost", { ...server, endpoint: host("localhost") }],
    ["REDIS://h:1", { ...server, endpoint: host("h", 1) }],
    ["valkey://h/", { ...server, endpoint: host("h") }],
    ["rediss://h:6380/15", { ...server, endpoint: host("h", 6380), isTls: true, database: 15 }],
    ["redis://[::1]:7000", { ...server, endpoint: host("::1", 7000) }],
    ["redis://:p@h", { ...server, endpoint: host("h"), password: "p" }],
    ["redis://u@h", { ...server, endpoint: host("h"), user: "u" }],
    ["redis://u:p:q@h", { ...server, endpoint: host("h"), user: "u", password: "p:q" }],
    ["redis://u:%40%25@h", { ...server, endpoint: host("h"), user: "u", password: "@%" }],
    [
      "redis://u:a@b/c?d#e@h/3",
      { ...server, endpoint: host("h"), user: "u", password: "a@b/c?d#e", database: 3 },
    ],
    ["unix:///run/redis.sock", { ...server, endpoint: { path: "/run/redis.sock" } }],
    ["unix:///run/a@b%20c", { ...server, endpoint: { path: "/run/a@b c" } }],
    ["unix://u:p@/run/s", { ...server, endpoint: { path: "/run/s" }, user: "u", password: "p" }],
    [
      "sentinel://u:p@a:1,b,[::2]:3/my-master.1?tls=true",
      {
        kind: "sentinel",
        sentinels: [host("a", 1), host("b", 26379), host("::2", 3)],
        master: "my-master.1",
        isTls: true,
        user: "u",
        password: "p",
      },
    ],
    ["cluster://a,b:2", { kind: "cluster", seeds: [host("a"), host("b", 2)], isTls: false }],
    ["rediss://a?cluster=true", { kind: "cluster", seeds: [host("a")], isTls: true }],
    [
      "redis://a,b/0?cluster=true",
      { kind: "cluster", seeds: [host("a"), host("b")], isTls: false },
    ],
    ["redis://a?cluster=false", { ...server, endpoint: host("a") }],
  ];
  for (const [text, address] of forms) {
    test(`reads ${text}`, async () => {
      assert.deepEqual(await parse(text), address);
    });
  }

  const mistakes: [text: string, found: RegExp][] = [
    ["localhost:6379", /does not start with a known scheme/],
    ["http://localhost", /"http" is none of a known scheme/],
    ["redis://", /a host is missing/],
    ["redis://:6379", /a host is missing/],
    ["redis://h:0", /a port is no number from 1 to 65535/],
    ["redis://h:65536", /a port/],
    ["redis://h:6379x", /a port/],
    ["redis://::1", /a host is not|a port|a host is missing/],
    ["redis://[h]", /in \[ \] stands no IPv6 address/],
    ["redis://a b", /a host is not/],
    ["redis://h/x", /no number of a database/],
    ["redis://h/99999999999", /no number of a database/],
    ["redis://h?tls=true", /known is: cluster=true/],
    ["redis://h?cluster=yes", /known is: cluster=true/],
    ["redis://a,b", /several hosts/],
    ["redis://u:%zz@h", /% in it/],
    ["unix://run/s", /does not start with \//],
    ["unix:///s?x=true", /known is: none/],
    ["sentinel://a,b", /name of the master is missing/],
    ["sentinel://a,,b/m", /a host is missing/],
    ["cluster://a/1", /no databases/],
  ];
  for (const [text, found] of mistakes) {
    test(`refuses ${text}, says what is wrong and gives an example`, () => {
      assert.throws(() => parseAddress(text), { code: "USAGE", message: found, hint: /:\/\// });
    });
  }

  test("no message and no value shows the password, wherever it stands", () => {
    const secret = "Zq7-secret_Zq7";
    const shapes = [
      (junk: string) => `redis://u:${secret}@h${junk}`,
      (junk: string) => `redis://u:${secret}${junk}`,
      (junk: string) => `redis://:${secret}${junk}@h`,
      (junk: string) => `sentinel://u:${secret}@a,b${junk}`,
      (junk: string) => `u:${secret}@h${junk}`,
    ];
    const junk = fc.string({ unit: fc.constantFrom("@", "/", ":", "?", ",", "%", "[", "1", "x") });
    fc.assert(
      fc.property(fc.constantFrom(...shapes), junk, (shape, text) => {
        let said: string;
        try {
          const address = parseAddress(shape(text));
          if (address.login.password === undefined) return;
          const { login: _, ...rest } = address;
          // A login that is not closed by "@" is a host for all that anybody can tell.
          if (JSON.stringify(rest).includes(secret)) return;
          said = formatAddress(address) + JSON.stringify(address) + inspect(address, { depth: 9 });
        } catch (error) {
          said = inspect(error);
        }
        assert.ok(!said.includes(secret), said);
      }),
    );
  });
});

test("formatAddress() gives an address without its login that reads the same", () => {
  for (const text of [
    "redis://h:6379",
    "rediss://[::1]:1/2",
    "unix:///run/s",
    "sentinel://a:26379,b:1/m?tls=true",
    "cluster://a:6379,b:1",
  ]) {
    assert.equal(formatAddress(parseAddress(text)), text);
    assert.equal(formatAddress(parseAddress(text.replace("://", "://u:p@"))), text);
  }
});

suite("credentialsOf()", () => {
  const password = Secret.text("p");
  test("takes what is given beside the address first", () => {
    const { login } = parseAddress("redis://u:p@h");
    assert.deepEqual(credentialsOf(login), { user: "u", password: login.password });
    assert.equal(credentialsOf(login, { password })?.password, password);
    assert.equal(credentialsOf(login, { user: "v" })?.user, "v");
    assert.equal(credentialsOf({}), undefined);
  });

  test("refuses a user without a password, without naming it: it may be the password", () => {
    const { login } = parseAddress("redis://secret@h");
    assert.throws(() => credentialsOf(login), { code: "USAGE", message: /^(?!.*secret)/ });
  });
});
