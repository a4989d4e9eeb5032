/**
 * `tidemark/resp`: the protocol of Redis and Valkey, RESP2 and RESP3, without any I/O.
 *
 * A server reads commands. The parser is itself the view on the command it has found: nothing is
 * allocated for one, and bytes are borrowed until the next call.
 *
 *     const parser = new RequestParser();
 *     const name = new Slice();
 *     socket.on("data", (chunk) => {
 *       parser.push(chunk);
 *       while (parser.next()) {
 *         parser.argument(0, name);
 *         console.log(name.latin1(), parser.argc);
 *       }
 *     });
 *
 * A client writes commands and reads replies.
 *
 *     const encoder = new RespEncoder();
 *     encoder.command("SET", key, value);
 *     socket.write(encoder.take());
 *
 *     const replies = new ReplyParser();
 *     replies.push(chunk);
 *     for (let reply = replies.next(); reply !== undefined; reply = replies.next()) {
 *       if (reply.type === "error") throw new Error(Buffer.from(reply.bytes).toString());
 *     }
 *
 * Whatever the peer sends wrong is thrown as a `Failure` with the code PROTOCOL_ERROR (its message
 * is what a server would answer) or LIMIT_EXCEEDED.
 */
export { Slice } from "./base/bytes.ts";
export { Failure } from "./base/errors.ts";
export { type Argument, RespEncoder } from "./codec/resp/encode.ts";
export {
  type Pair,
  type Reply,
  type ReplyLimits,
  ReplyParser,
  replyLimits,
} from "./codec/resp/reply.ts";
export { type RequestLimits, RequestParser, requestLimits } from "./codec/resp/request.ts";
export { splitWords } from "./codec/resp/words.ts";
