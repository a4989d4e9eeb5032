import type { Slice } from "../../base/bytes.ts";
import type { KeyHead, KeySink } from "./key-sink.ts";
import type { Parts, RdbEvent } from "./parts.ts";
import { moduleOf } from "./vector-set.ts";
import type { RdbWriter } from "./writer.ts";
import type { ValueWriter } from "./writer-value.ts";

/** Gives what a reader reads to a writer, so that one file becomes another, for other servers. */
export class RdbTranscoder implements KeySink {
  readonly #writer: RdbWriter;
  #value: ValueWriter | undefined;
  #head: KeyHead | undefined;
  #database = -1;
  #hasBegun = false;

  constructor(writer: RdbWriter) {
    this.#writer = writer;
  }

  library(code: Slice): void {
    this.#writer.functionLibrary(code.view());
  }

  moduleAux(raw: Uint8Array): void {
    this.#writer.moduleAux(moduleOf(raw).name, raw);
  }

  begin(head: KeyHead): void {
    if (head.database !== this.#database) {
      this.#writer.database(head.database);
      this.#database = head.database;
    }
    this.#head = head;
    this.#hasBegun = false;
    this.#value = this.#writer.key(head.key, head);
    if (head.metadata) this.#value.omit("key metadata");
  }

  accept(event: RdbEvent, parts: Parts): void {
    const value = this.#value;
    const head = this.#head;
    if (!value || !head) return;
    switch (event) {
      case "string":
        value.string(parts.first);
        break;
      case "begin":
        this.#beginValue(value, head, parts);
        break;
      case "node":
        if (head.layout.type === "stream") value.streamNode(parts.first, parts.second);
        else value.node();
        break;
      case "element":
        value.element(parts.first);
        break;
      case "member":
        value.member(parts.first, parts.score);
        break;
      case "field":
        value.field(parts.first, parts.second, parts.fieldExpireAtMs);
        break;
      case "raw":
        this.#raw(value, parts);
        break;
      case "released":
        value.omit("stream nacks");
        break;
      case "end value":
        value.endValue();
        break;
      default:
        takeOfStream(value, event, parts);
    }
  }

  #beginValue(value: ValueWriter, { layout }: KeyHead, { count, nodes }: Parts): void {
    if (layout.type === "list") value.beginList(count < 0 ? { nodes } : { elements: count });
    else if (layout.type === "set") value.beginSet(count);
    else if (layout.type === "zset") value.beginZset(count);
    else if (layout.type === "hash") value.beginHash(count, layout.hasFieldExpiry === true);
    else if (layout.type === "stream") value.beginStream(nodes);
    else value.omit("array");
  }

  /** A reader gives the module's id whole, in the first piece. */
  #raw(value: ValueWriter, { first }: Parts): void {
    if (!this.#hasBegun) value.beginModule(moduleOf(first.view()).name);
    this.#hasBegun = true;
    value.moduleBytes(first);
  }

  finish(): void {
    this.#writer.finish();
  }
}

function takeOfStream(value: ValueWriter, event: RdbEvent, parts: Parts): void {
  if (event === "stream" && parts.stream) value.streamInfo(parts.stream);
  else if (event === "group" && parts.group) value.streamGroup(parts.group);
  else if (event === "pending" && parts.pending) value.streamPending(parts.pending);
  else if (event === "consumers") value.streamConsumers(parts.count);
  else if (event === "consumer" && parts.consumer) value.streamConsumer(parts.consumer);
  else if (event === "consumer pending") value.streamConsumerPending(parts.id);
  else if (event === "idempotency" && parts.idempotency) value.streamIdempotency(parts.idempotency);
}
