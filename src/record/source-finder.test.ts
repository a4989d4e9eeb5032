import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { FakeServer, type Peer } from "../../test/link/fake-server.ts";
import { Failure } from "../base/errors.ts";
import type { Position } from "../codec/aof/annotation.ts";
import type { Instance, Member } from "../link/instance.ts";
import { SourceFinder, type SourceFinderOptions } from "./source-finder.ts";

const id = "a".repeat(40);

/** Answers INFO, as one that can be changed. */
class Server implements AsyncDisposable {
  role: Member["role"];
  isListed = true;
  isUp = true;
  isRefusing = false;
  offset = 100;
  readonly #fake: FakeServer;

  private constructor(fake: FakeServer, role: Member["role"]) {
    this.#fake = fake;
    this.role = role;
  }

  static async start(role: Member["role"]): Promise<Server> {
    const holder: { server?: Server } = {};
    const fake = await FakeServer.start(async (peer: Peer) => {
      for (;;) {
        await peer.command();
        if (holder.server?.isRefusing) return peer.hangUp();
        const text = holder.server?.info ?? "";
        await peer.write(`$${text.length}\r\n${text}\r\n`);
      }
    });
    holder.server = new Server(fake, role);
    return holder.server;
  }

  get info(): string {
    const role = this.actualRole ?? this.role;
    return `role:${role === "replica" ? "slave" : role}\r\nmaster_replid:${id}\r\nslave_repl_offset:${this.offset}\r\n`;
  }

  actualRole: Member["role"] | undefined;

  get member(): Member {
    const { role, isUp, offset } = this;
    return { endpoint: this.#fake.endpoint, role, isUp, offset };
  }

  get path(): string {
    return (this.#fake.endpoint as { path: string }).path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fake[Symbol.asyncDispose]();
  }
}

/** A master, two replicas and a finder; what they are and what time it is can be changed. */
class World implements AsyncDisposable {
  readonly master: Server;
  readonly near: Server;
  readonly far: Server;
  readonly finder: SourceFinder;
  nowMs = 0;
  failure: Failure | undefined;
  position: Position | undefined;

  private constructor(servers: readonly Server[], prefer: SourceFinderOptions["prefer"]) {
    [this.master, this.near, this.far] = servers as [Server, Server, Server];
    this.near.offset = 101;
    this.finder = new SourceFinder({
      topology: { kind: "sentinel", intervalMs: 1, read: async () => this.#read() },
      ...{ prefer, connect: {}, now: () => this.nowMs, position: () => this.position },
    });
  }

  static async start(prefer?: "replica" | "master"): Promise<World> {
    const roles = ["master", "replica", "replica"] as const;
    return new World(await Promise.all(roles.map((role) => Server.start(role))), prefer);
  }

  #read(): Instance[] {
    if (this.failure) throw this.failure;
    const listed = [this.master, this.near, this.far].filter(({ isListed }) => isListed);
    return [{ key: "main", members: listed.map(({ member }) => member) }];
  }

  async find(): Promise<Server> {
    const { endpoint } = await this.finder.find();
    const all = [this.master, this.near, this.far];
    return all.find(({ path }) => "path" in endpoint && path === endpoint.path) as Server;
  }

  /** Whether a server that is followed is to be left. */
  async isLeft(server: Server, looks = 20): Promise<string | undefined> {
    const stop = new AbortController();
    const watching = this.finder.watch({ endpoint: { path: server.path }, why: "" }, stop.signal);
    let left = looks;
    const timer = setInterval(() => {
      this.nowMs += 1000;
      if (--left === 0) stop.abort();
    }, 10);
    const failure = await watching;
    clearInterval(timer);
    return failure?.message.replace(/^.*: /, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.master, this.near, this.far]) await server[Symbol.asyncDispose]();
  }
}

suite("find()", () => {
  test("takes the replica that is furthest ahead, and the master where that is asked for", async () => {
    await using world = await World.start();
    assert.equal(await world.find(), world.near);
    await using other = await World.start("master");
    assert.equal(await other.find(), other.master);
  });

  test("goes back to a server whose session was long", async () => {
    await using world = await World.start();
    for (let i = 0; i < 3; i++) {
      assert.equal(await world.find(), world.near);
      world.nowMs += 10_000;
    }
  });

  test("avoids one that is needed again at once, longer each time, while there is another", async () => {
    await using world = await World.start();
    const next = async () => {
      world.nowMs += 100;
      return await world.find();
    };
    assert.equal(await next(), world.near);
    assert.equal(await next(), world.far);
    assert.equal(await next(), world.master);
    // Nothing is left: the one whose time is up first.
    assert.equal(await next(), world.near);
    world.nowMs += 6000;
    assert.equal(await next(), world.far, "the first one has failed twice");
  });

  test("takes another where the first one does not answer, and says why", async () => {
    await using world = await World.start();
    world.near.isRefusing = true;
    const { endpoint, why } = await world.finder.find();
    assert.deepEqual(endpoint, { path: world.far.path });
    assert.match(why, new RegExp(world.near.path));
  });

  test("takes none that has another role than is told of it", async () => {
    await using world = await World.start();
    world.near.actualRole = "master";
    assert.equal(await world.find(), world.far);
    world.far.actualRole = "master";
    world.master.actualRole = "replica";
    await assert.rejects(world.find(), {
      code: "SERVER_BUSY",
      message: /it is a (master|replica)/,
    });
  });

  test("takes no replica that has less than the log, but waits for it a while", async () => {
    await using world = await World.start();
    world.position = { replicationId: id, offset: 102 };
    const timer = setTimeout(() => {
      world.near.offset = 102;
    }, 60);
    assert.equal(await world.find(), world.near);
    clearTimeout(timer);
    world.position = { replicationId: "b".repeat(40), offset: 1000 };
    world.nowMs += 20_000;
    assert.equal(await world.find(), world.near);
  });

  test("goes on with what was known where nobody can be asked, but not from the start", async () => {
    await using world = await World.start();
    world.failure = new Failure("SERVER_UNREACHABLE", "No Sentinel");
    await assert.rejects(world.find(), { message: "No Sentinel" });
    world.failure = undefined;
    assert.equal(await world.find(), world.near);
    world.nowMs += 10_000;
    world.failure = new Failure("SERVER_UNREACHABLE", "No Sentinel");
    assert.equal(await world.find(), world.near);
    world.failure = new Failure("SERVER_DENIED", "No");
    await assert.rejects(world.find(), { message: "No" });
  });
});

suite("watch()", () => {
  test("leaves no server that is what it was", async () => {
    await using world = await World.start();
    assert.equal(await world.isLeft(await world.find()), undefined);
  });

  test("leaves a replica that was promoted for another, and does not count that as its failure", async () => {
    await using world = await World.start();
    const found = await world.find();
    found.role = "master";
    world.master.isListed = false;
    assert.equal(await world.isLeft(found), "it is the master, and a replica is up");
    assert.equal(await world.find(), world.far);
    found.role = "replica";
    world.far.role = "master";
    assert.equal(await world.isLeft(world.far), undefined, "not twice within minutes");
    world.nowMs += 3 * 60_000;
    assert.equal(await world.isLeft(world.far), "it is the master, and a replica is up");
  });

  test("stays with a promoted one where there is no other, or only one that is not there", async () => {
    await using world = await World.start();
    const found = await world.find();
    found.role = "master";
    world.master.isListed = false;
    world.far.isUp = false;
    assert.equal(await world.isLeft(found), undefined);
    world.far.isUp = true;
    world.far.isRefusing = true;
    assert.equal(await world.isLeft(found), undefined);
  });

  test("leaves what was a master where a master is asked for", async () => {
    await using world = await World.start("master");
    const found = await world.find();
    found.role = "replica";
    world.near.role = "master";
    assert.equal(await world.isLeft(found), "it is not the master any more");
    assert.equal(await world.find(), world.near);
  });

  test("leaves one that is down or not listed only when it stays so, and goes to another", async () => {
    await using world = await World.start();
    const found = await world.find();
    found.isUp = false;
    assert.equal(await world.isLeft(found, 8), undefined);
    found.isUp = true;
    assert.equal(await world.isLeft(found, 8), undefined);
    found.isUp = false;
    assert.equal(await world.isLeft(found), "it has lost its master");
    assert.equal(await world.find(), world.far);
    world.far.isListed = false;
    assert.equal(await world.isLeft(world.far), "nobody lists it any more");
    assert.equal(await world.find(), world.master);
  });

  test("is not troubled by a time in which nobody can be asked", async () => {
    await using world = await World.start();
    const found = await world.find();
    world.failure = new Failure("SERVER_UNREACHABLE", "No Sentinel");
    assert.equal(await world.isLeft(found), undefined);
  });
});
