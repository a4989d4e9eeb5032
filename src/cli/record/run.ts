/** The command `record`: a spool, a recorder, and somebody to tell what happens. */
import { mkdirSync } from "node:fs";
import { systemClock } from "../../base/clock.ts";
import { Failure } from "../../base/errors.ts";
import { type Address, credentialsOf, parseAddress } from "../../link/address.ts";
import { type ChooseOptions, chooseSource } from "../../link/instance.ts";
import { printAcl } from "../../link/permissions.ts";
import { Secret } from "../../link/secret.ts";
import { Topology } from "../../link/topology.ts";
import { type FsyncPolicy, Spool } from "../../log/spool.ts";
import { Recorder, type RecorderEvent, type Source } from "../../record/recorder.ts";
import { describeStatus, StatusSocket } from "../../record/status.ts";
import { StatusLine } from "./status-line.ts";

export type RecordFlags = {
  readonly fsync: FsyncPolicy;
  readonly segmentMb: string;
  readonly follow: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly passwordCommand?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly sni?: string;
  readonly printAcl?: true;
};

/** A file of less is all header, one of more takes long to check after a crash. */
const segmentMbs = { least: 1, most: 16 * 1024 } as const;

export async function record(text: string, folder: string, flags: RecordFlags): Promise<void> {
  const address = parseAddress(text);
  if (flags.printAcl) {
    process.stdout.write(`${printAcl(address.kind, flags.user)}\n`);
    return;
  }
  const prefer = readFollow(flags.follow);
  const connect = readConnect(address, flags);
  mkdirSync(folder, { recursive: true });
  let recorder: Recorder | undefined;
  await using spool = await Spool.open(folder, {
    fsync: flags.fsync,
    segmentBytes: readSegmentBytes(flags.segmentMb),
    onChange: () => recorder?.spoolChanged(),
  });
  await using topology = new Topology(address, connect);
  recorder = new Recorder({
    findSource: () => findSource(topology, { prefer }),
    connect,
    spool,
    clock: systemClock,
    onEvent: (event) => line.event(describeEvent(event)),
  });
  const running = recorder;
  const status = () => describeStatus(running, spool);
  using line = new StatusLine(status);
  await using _socket = await StatusSocket.open(folder, status);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => stop.abort(new Failure("ABORTED", `Stopped by ${signal}`)));
  }
  await running.run(stop.signal);
  await spool.flush();
}

async function findSource(topology: Topology, options: ChooseOptions): Promise<Source> {
  const [instance, ...others] = await topology.read();
  if (instance && others.length === 0) return chooseSource(instance, options);
  const found = `it is a cluster of ${others.length + 1} shards`;
  throw new Failure("USAGE", `Cannot record this address into one spool: ${found}`, {
    hint: "Record each shard by the address of one of its nodes, into a spool of its own.",
  });
}

function readFollow(text: string): "replica" | "master" {
  if (text === "replica" || text === "master") return text;
  throw new Failure("USAGE", `Cannot follow "${text}": it is neither replica nor master`);
}

function readSegmentBytes(text: string): number {
  const size = Number(text);
  const { least, most } = segmentMbs;
  if (Number.isInteger(size) && size >= least && size <= most) return size * 2 ** 20;
  throw new Failure("USAGE", `Cannot use --segment-mb ${text}: give ${least} to ${most}`);
}

function readConnect(address: Address, flags: RecordFlags) {
  const { user, passwordFile, passwordCommand, cacert, cert, key, sni } = flags;
  if (passwordFile !== undefined && passwordCommand !== undefined) {
    throw new Failure("USAGE", "Cannot take the password from a file and from a command");
  }
  const password =
    passwordFile !== undefined
      ? Secret.file(passwordFile)
      : passwordCommand !== undefined
        ? Secret.command(passwordCommand)
        : undefined;
  const given = { ...(user !== undefined && { user }), ...(password && { password }) };
  const tls = { caFile: cacert, certFile: cert, keyFile: key, serverName: sni };
  return {
    credentials: credentialsOf(address.login, given),
    tls: address.isTls ? tls : undefined,
  };
}

function describeEvent(event: RecorderEvent): { text: string; fields: object } {
  const { kind, ...rest } = event;
  const fields =
    "failure" in rest
      ? { event: kind, ...rest, failure: rest.failure.message, code: rest.failure.code }
      : { event: kind, ...rest };
  const details = Object.entries(fields)
    .filter(([name]) => name !== "event" && name !== "code")
    .map(
      ([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`,
    );
  return { text: `${kind}${details.length > 0 ? `, ${details.join(", ")}` : ""}`, fields };
}
