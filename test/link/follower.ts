import type { Failure } from "../../src/base/errors.ts";
import type { Position } from "../../src/codec/aof/annotation.ts";
import type { Endpoint } from "../../src/link/address.ts";
import { ReplicaLink, type ReplicaLinkOptions } from "../../src/link/replica-link.ts";

/** A recorder without a disk: it keeps what it gets, and acknowledges all of it at once. */
export class Follower implements AsyncDisposable {
  readonly kind: "full" | "continue";
  readonly start: Position;
  readonly snapshot: Buffer;
  readonly #link: ReplicaLink;
  readonly #timer: NodeJS.Timeout;
  readonly #chunks: Uint8Array[] = [];
  /** How the stream ended. */
  readonly ended: Promise<Failure>;

  private constructor(
    link: ReplicaLink,
    kind: "full" | "continue",
    start: Position,
    snapshot: Buffer,
  ) {
    this.#link = link;
    this.kind = kind;
    this.start = start;
    this.snapshot = snapshot;
    this.ended = this.#follow();
    this.#timer = setInterval(() => this.#ack(), 100);
  }

  static async start(
    endpoint: Endpoint,
    options: ReplicaLinkOptions = {},
    from?: Position,
  ): Promise<Follower> {
    const link = await ReplicaLink.open(endpoint, options);
    try {
      const { kind, position } = await link.start(from);
      const chunks: Uint8Array[] = [];
      if (kind === "full") {
        for await (const chunk of link.snapshot()) chunks.push(new Uint8Array(chunk));
      }
      return new Follower(link, kind, position, Buffer.concat(chunks));
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  }

  get position(): Position {
    return { replicationId: this.start.replicationId, offset: this.#link.offset };
  }

  get stream(): string {
    return Buffer.concat(this.#chunks).toString("latin1");
  }

  async #follow(): Promise<Failure> {
    try {
      for await (const chunk of this.#link.stream()) {
        this.#chunks.push(new Uint8Array(chunk));
        this.#ack();
      }
    } catch (error) {
      return error as Failure;
    }
    throw new Error("The stream ends by a failure only");
  }

  #ack(): void {
    this.#link.ack(this.#link.offset, this.#link.offset);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#link[Symbol.asyncDispose]();
  }
}
