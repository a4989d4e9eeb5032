import { Failure } from "../base/errors.ts";

const passwordHint =
  "Give the password: redis://user:password@host, --password-file or --password-command.";
const managedHint =
  "Managed services often hide replication. Left are: the provider's export of RDB files, or a " +
  "replica of your own where the service lets you attach one, and that followed instead.";

/** Codes of error replies that pass by themselves. */
const passing: ReadonlyMap<string, string> = new Map([
  ["LOADING", "The server is loading its data; try again when it is done."],
  [
    "NOMASTERLINK",
    "The server is a replica without its master; it can serve again when it has one.",
  ],
  ["MASTERDOWN", "The server is a replica without its master; it can serve again when it has one."],
  ["BUSY", "A script keeps the server busy; try again when it is done."],
  ["TRYAGAIN", "Nothing was changed; try again."],
  ["CLUSTERDOWN", "The cluster does not have all of its slots; try again when it does."],
]);

/**
 * What an error reply means for whoever sent the request.
 *
 * `request` is the command in capitals, with its subcommand where it has one: `CLUSTER SLOTS`.
 */
export function refusal(request: string, server: string, text: string): Failure {
  // Some servers repeat the arguments of a command that they do not know: a password, perhaps.
  const said = text.replace(/,? with args beginning with.*$/s, "").slice(0, 200);
  const message = `Cannot run ${request} on ${server}: it says ${JSON.stringify(said)}`;
  const code = /^[A-Z]+/.exec(said)?.[0] ?? "";
  const passes = passing.get(code);
  if (passes !== undefined) return new Failure("SERVER_BUSY", message, { hint: passes });
  const denied = (hint: string) => new Failure("SERVER_DENIED", message, { hint });
  switch (code) {
    case "NOPERM":
      return denied(`The user lacks a permission: ACL SETUSER … +${permissionFor(request)}`);
    case "NOAUTH":
      return denied(passwordHint);
    case "WRONGPASS":
      return denied("Check user and password, and on the server that the user is on: ACL LIST");
    case "DENIED":
      return denied("The server is in protected mode: set a password on it, or connect locally.");
    default:
      return refusalByText(request, said, message);
  }
}

/** The permission that a request needs, as ACL rules name it. */
function permissionFor(request: string): string {
  return request.toLowerCase().replace(" ", "|");
}

/** Errors whose code is no more than ERR. */
function refusalByText(request: string, said: string, message: string): Failure {
  const denied = (hint: string) => new Failure("SERVER_DENIED", message, { hint });
  if (/max number of clients/.test(said)) {
    return new Failure("SERVER_BUSY", message, { hint: "Raise maxclients on the server." });
  }
  if (/BGSAVE failed|can't fork|while failing over/i.test(said)) {
    return new Failure("SERVER_BUSY", message, { hint: "Look into the log of the server." });
  }
  if (request === "AUTH") {
    if (/password configured|no password is set/.test(said)) {
      return denied("The server has no password: take it out of the address.");
    }
    if (/wrong number of arguments/.test(said)) {
      return denied("A server before 6.0 has no users: write redis://:password@host.");
    }
    return denied(passwordHint);
  }
  if (/cluster support disabled/i.test(said)) {
    return new Failure("USAGE", message, {
      hint: "It is no node of a cluster: write redis:// for cluster://.",
    });
  }
  const isReplication = request === "PSYNC" || request === "REPLCONF";
  if (isReplication) return new Failure("REPLICATION_REFUSED", message, { hint: managedHint });
  if (/unknown (sub)?command/i.test(said)) return denied("The server has it renamed or hidden.");
  return new Failure("SERVER_FAILED", message);
}
