import type { Address } from "./address.ts";

export type Permission = {
  /** As ACL SETUSER takes it. */
  readonly rule: string;
  /** The request that fails without it. */
  readonly request: string;
  readonly why: string;
};

const recorder: readonly Permission[] = [
  { rule: "+psync", request: "PSYNC", why: "to receive the snapshot and every write" },
  { rule: "+replconf", request: "REPLCONF", why: "to acknowledge what is safe" },
  { rule: "+info", request: "INFO", why: "to find the replicas, and to tell the server's version" },
  { rule: "+time", request: "TIME", why: "to measure the server's clock" },
];

const shards: Permission = {
  rule: "+cluster|slots",
  request: "CLUSTER SLOTS",
  why: "to find the shards",
};

/** What it needs on Sentinels that ask for a login. */
const sentinelPermissions: readonly Permission[] = [
  {
    rule: "+sentinel|get-master-addr-by-name",
    request: "SENTINEL GET-MASTER-ADDR-BY-NAME",
    why: "to find the master",
  },
  { rule: "+sentinel|replicas", request: "SENTINEL REPLICAS", why: "to find its replicas" },
];

/** What a recorder needs on the servers that it follows; nothing of it can be left out. */
export function recorderPermissions(kind: Address["kind"]): readonly Permission[] {
  return kind === "cluster" ? [...recorder, shards] : recorder;
}

/**
 * The arguments of ACL SETUSER that give a user these permissions and no others. `reset` takes the
 * rest away by whatever names the version has for it: 6.0 knows no channels.
 */
export function aclRules(permissions: readonly Permission[]): string[] {
  return ["reset", "on", ">PASSWORD", ...permissions.map(({ rule }) => rule)];
}

/** What an administrator types, with the reasons. */
export function printAcl(kind: Address["kind"], user = "tidemark"): string {
  const lines = [
    ...explain(recorderPermissions(kind), "On every server, replicas too", user),
    ...(kind === "sentinel"
      ? ["", ...explain(sentinelPermissions, "On every Sentinel, if they ask for a login", user)]
      : []),
    "",
    "No keys and no channels are granted: replication does not ask for them. It shows the user the",
    "whole data set all the same. Make it last with ACL SAVE, or with CONFIG REWRITE where the",
    "server has no aclfile. Before 6.0 there are no users: the password of the server is enough.",
  ];
  return lines.join("\n");
}

function explain(permissions: readonly Permission[], where: string, user: string): string[] {
  const width = Math.max(...permissions.map(({ rule }) => rule.length));
  return [
    `${where}:`,
    "",
    `  ACL SETUSER ${user} ${aclRules(permissions).join(" ")}`,
    "",
    ...permissions.map(({ rule, why }) => `  ${rule.padEnd(width)}  ${why}`),
  ];
}
