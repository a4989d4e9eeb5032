import { FakeServer, type Peer } from "./fake-server.ts";

export type SourceScript = {
  /** In answer to PSYNC; then the snapshot or the stream. Keep-alives included. */
  readonly sends: readonly (Uint8Array | string)[];
  /** Sizes of the pieces in which all that is sent. */
  readonly pieces?: readonly number[];
  /** Hangs up when that is sent, instead of waiting for the client to go. */
  readonly hangsUp?: boolean;
};

/** A source that takes a replica's handshake and then sends what it is told to. */
export async function fakeSource(script: SourceScript): Promise<{
  readonly server: FakeServer;
  readonly psync: Promise<string[]>;
  /** What came behind PSYNC, as it comes. */
  readonly acks: string[][];
}> {
  const { promise, resolve } = Promise.withResolvers<string[]>();
  const acks: string[][] = [];
  const server = await FakeServer.start(async (peer) => {
    resolve(await takeHandshake(peer));
    const reading = readAcks(peer, acks);
    for (const part of script.sends) await peer.write(part, script.pieces);
    if (script.hangsUp) peer.hangUp();
    await reading;
  });
  return { server, psync: promise, acks };
}

/** Answers as Valkey does up to PSYNC, and returns that. */
export async function takeHandshake(peer: Peer): Promise<string[]> {
  for (;;) {
    const command = await peer.command();
    if (command[0] === "PSYNC") return command;
    await peer.write("+OK\r\n");
  }
}

async function readAcks(peer: Peer, acks: string[][]): Promise<void> {
  for (;;) acks.push(await peer.command());
}
