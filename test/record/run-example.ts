/** Runs the examples of `every-command.ts` on a server, in each of the ways in which commands get there. */
import type { Argument, Client, Reply } from "../support/client.ts";
import { ReplyError } from "../support/client.ts";
import { blocking, type Example } from "./every-command.ts";

/** As it is, in a transaction, in a script, in a function, or from a client that waits for its data. */
export const ways = ["alone", "transaction", "script", "function", "waiting"] as const;
export type Way = (typeof ways)[number];

export type Stage = {
  readonly client: Client;
  /** Another connection, for what blocks. */
  readonly waiter: Client;
  /** The database that both use. */
  readonly database: number;
  /** Of a second server, for MIGRATE. */
  readonly peerPort: number;
  /** Makes keys that no other run has. */
  readonly prefix: string;
};

/** What a server says of its commands: flags by name, "|" before subcommands. */
export type Flags = ReadonlyMap<string, readonly string[]>;

export async function readFlags(client: Client): Promise<Flags> {
  const flags = new Map<string, readonly string[]>();
  const add = (commands: Reply): void => {
    for (const command of commands as Reply[][]) {
      flags.set(String(command[0]), (command[2] as Reply[]).map(String));
      if (command[9]) add(command[9]);
    }
  };
  add(await client.call("COMMAND"));
  return flags;
}

/** SELECT in a script has no effect outside of it; SCRIPT is refused there, which its flags do not say. */
const isOfConnection = new Set(["select", "script"]);

/** In which ways a server lets a command be run. */
export function waysOf({ name, text }: Example, flags: Flags): Way[] {
  const said = flags.get(name) ?? [];
  const container = flags.get(name.split("|")[0] ?? "") ?? [];
  const isForbidden = isOfConnection.has(name) || text.includes(" BLOCK ");
  const isScriptable = !isForbidden && ![...said, ...container].includes("noscript");
  return ways.filter((way) => {
    switch (way) {
      case "alone":
        return true;
      case "transaction":
        return !said.includes("no_multi");
      case "script":
        return isScriptable;
      case "function":
        return isScriptable && flags.has("fcall");
      case "waiting":
        return blocking.has(name) && (name !== "xreadgroup" || text.includes(" BLOCK "));
    }
    return false;
  });
}

/** The library that "function" needs: it has to be there. */
export const caller =
  "#!lua name=caller\nredis.register_function('caller', function(keys, args) return redis.call(unpack(args)) end)";

/** Runs what makes the example change something; returns the example with its arguments. */
export async function setUp(example: Example, stage: Stage): Promise<Argument[]> {
  const { client, database } = stage;
  await client.call("SELECT", database);
  const commands = example.text.split(" ; ").map((text) => text.split(" "));
  const replies: Reply[] = [];
  for (const words of commands.slice(0, -1)) {
    replies.push(await client.call(...fill(words, stage, replies)));
  }
  return fill(commands.at(-1) ?? [], stage, replies);
}

function fill(words: readonly string[], stage: Stage, replies: readonly Reply[]): Argument[] {
  const name = `${stage.prefix}a`;
  const code = `#!lua name=${name}\nredis.register_function('${name}', function(k, a) return redis.call(unpack(a)) end)`;
  return words.map((word): Argument => {
    const reply = /^@(\d)$/.exec(word)?.[1];
    if (reply !== undefined) return replies[Number(reply) - 1] as Buffer;
    if (word === '""') return "";
    if (word === "%port") return stage.peerPort;
    if (word === "%code") return code;
    return word.replace(/\$(?=[abc])/, stage.prefix);
  });
}

/** Runs an example. @throws ReplyError where the server refuses it */
export async function run(example: Example, way: Way, stage: Stage): Promise<void> {
  if (way === "waiting") return await runWaiting(example, stage);
  const { client } = stage;
  const command = await setUp(example, stage);
  switch (way) {
    case "alone":
      await client.call(...command);
      return;
    case "transaction": {
      const [, , , reply] = await Promise.all([
        client.call("MULTI"),
        client.call("SET", `${stage.prefix}multi`, "v"),
        client.call(...command),
        client.call("EXEC"),
      ]);
      const refused = (reply as Reply[]).find((one) => one instanceof ReplyError);
      if (refused) throw refused;
      return;
    }
    case "script":
      await client.call(
        "EVAL",
        "return redis.call(unpack(ARGV))",
        1,
        `${stage.prefix}a`,
        ...command,
      );
      return;
    case "function":
      await client.call("FCALL", "caller", 1, `${stage.prefix}a`, ...command);
  }
}

/** The client waits, and then what it waits for comes: the command takes effect in another's turn. */
async function runWaiting(example: Example, stage: Stage): Promise<void> {
  const { client, waiter, database } = stage;
  const texts = example.text.split(" ; ");
  const [giving = "", waiting = ""] = texts.slice(-2);
  // What the last command before is, is kept back; so it must not refer to replies.
  const before = [...texts.slice(0, -2), "PING"].join(" ; ");
  await setUp({ ...example, text: before }, stage);
  await waiter.call("SELECT", database);
  const answer = waiter.call(...fill(waiting.split(" "), stage, []));
  // Where this throws, the answer is lost with its connection, and nobody waits for it.
  answer.catch(() => {});
  while (!/^blocked_clients:[1-9]/m.test(String(await client.call("INFO", "clients")))) {}
  await client.call(...fill(giving.split(" "), stage, []));
  await answer;
}
