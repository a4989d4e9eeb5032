/**
 * Reading an object of S3, through cuts.
 *
 * A read that is cut in the middle goes on from where it stands, with the same object: its ETag must
 * be the one that came first. Each answer is checked: that a range is the one that was asked for, and
 * that as many bytes come as are due. A storage whose ranges are wrong is read `inOnePiece`: from
 * the start each time, and what is not wanted is passed over.
 *
 * REJECTED. The whole object in memory: a snapshot has gigabytes. `If-Match`: not all storages know
 * it, and the ETag of the answer says the same.
 */
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { corrupt, Failure } from "../base/errors.ts";
import { Attempts, failIfAborted } from "./retry.ts";
import type { Bucket } from "./s3.ts";
import { s3Failure, saidBy } from "./s3-failure.ts";
import type { ByteRange, TransferOptions } from "./store.ts";

/** Silence of the storage in the middle of an object. */
const silenceMs = 30_000;
/** A cut after so many bytes is a new one, not another failure of the same attempt. */
const progressBytes = 64 * 1024;

type Body = AsyncIterable<Uint8Array> & { destroy: (error?: Error) => void };

type State = {
  /** The next byte that is wanted. */
  at: number;
  /** Where to stop: the end of the range, or of the object once it is known. */
  end: number | undefined;
  etag: string | undefined;
  readonly inOnePiece: boolean;
  readonly hasRange: boolean;
  readonly what: string;
};

export async function* readObject(
  bucket: Bucket,
  name: string,
  range: ByteRange | undefined,
  options: TransferOptions,
): AsyncGenerator<Uint8Array> {
  const key = bucket.keyOf(name);
  if (range !== undefined && range.start >= range.end) return;
  const { signal } = options;
  const state: State = {
    at: range?.start ?? 0,
    end: range?.end,
    etag: undefined,
    inOnePiece: options.inOnePiece === true,
    hasRange: range !== undefined,
    what: bucket.describe(name),
  };
  const attempts = new Attempts(bucket.retry, signal);
  for (;;) {
    failIfAborted(signal, `read ${state.what}`);
    const before = state.at;
    try {
      yield* readOnce(bucket, key, state, signal);
      return;
    } catch (error) {
      if (state.at - before >= progressBytes) attempts.reset();
      await attempts.next(s3Failure(`read ${state.what}`, error, signal));
    }
  }
}

/** Goes on until it is cut off. */
async function* readOnce(
  { client, sdk, bucket, within }: Bucket,
  key: string,
  state: State,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const asks = !state.inOnePiece && (state.hasRange || state.at > 0);
  if (state.end !== undefined && state.at >= state.end) return;
  const last = state.end === undefined ? "" : state.end - 1;
  const command = new sdk.GetObjectCommand({
    Bucket: bucket,
    Key: key,
    ...(asks ? { Range: `bytes=${state.at}-${last}` } : {}),
  });
  let answer: GetObjectCommandOutput;
  try {
    answer = await within(signal, 0, (options) => client.send(command, options));
  } catch (error) {
    // The object ends before the range begins.
    if (saidBy(error).status === 416) throw corrupt(state.at, `${state.what} ends before`);
    throw error;
  }
  const body = answer.Body as unknown as Body;
  try {
    let at = checkAnswer(answer, state, asks);
    const due = at + (answer.ContentLength as number);
    for await (const chunk of timed(body, signal)) {
      const from = Math.max(0, state.at - at);
      const to = Math.min(chunk.length, (state.end as number) - at);
      at += chunk.length;
      if (at > due) throw unfit(state, `it gives more bytes than the ${due} that it says`);
      if (from < to) {
        state.at += to - from;
        yield from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to);
      }
      if (state.at === state.end) return;
    }
    if (state.at < (state.end as number)) {
      throw new Failure("STORE_BUSY", `Cannot read ${state.what}: cut off at byte ${state.at}`);
    }
  } finally {
    body.destroy();
  }
}

/** Returns the byte that the answer begins with. */
function checkAnswer(answer: GetObjectCommandOutput, state: State, asks: boolean): number {
  const { ContentLength: length, ContentRange: range, ETag: etag } = answer;
  if (length === undefined) throw unfit(state, "it does not say how many bytes it gives");
  if (state.etag !== undefined && etag !== state.etag) {
    throw corrupt(state.at, `${state.what} was replaced while it was read`);
  }
  state.etag = etag;
  if (!asks) {
    if (range !== undefined) throw unfit(state, "it gives a range of an object that was asked for");
    if (state.end === undefined) state.end = length;
    if (length < state.end) throw corrupt(length, `${state.what} ends`);
    return 0;
  }
  const [, start, end, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range ?? "") ?? [];
  if (Number(start) !== state.at || Number(end) + 1 - Number(start) !== length) {
    throw unfit(
      state,
      `it gives ${range ?? "no range"} where one from ${state.at} on was asked for`,
    );
  }
  if (state.end === undefined) state.end = Number(size);
  if (Number(size) < state.end) throw corrupt(Number(size), `${state.what} ends`);
  if (Number(end) + 1 !== state.end)
    throw unfit(state, `it gives ${range}, to before ${state.end}`);
  return state.at;
}

/** The chunks of a body. One that does not come in time ends it; the time that they are used is not counted. */
async function* timed(
  body: Body,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = body[Symbol.asyncIterator]();
  const stop = () => body.destroy(new Error("stopped"));
  signal?.addEventListener("abort", stop, { once: true });
  let isWaiting = true;
  const timer = setTimeout(() => {
    if (isWaiting) body.destroy(new Error(`it is silent for ${silenceMs} ms`));
  }, silenceMs);
  try {
    for (;;) {
      isWaiting = true;
      timer.refresh();
      const next = await chunks.next();
      if (next.done) return;
      isWaiting = false;
      yield next.value;
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

function unfit(state: State, found: string): Failure {
  return new Failure("STORE_UNFIT", `Cannot read ${state.what} from this storage: ${found}`);
}
