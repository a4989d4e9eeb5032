/** What callers may act on: the exit status of the command line, and what the operator does next. */
const kinds = {
  USAGE: { exit: 2, hint: "Run the command with `--help` for its options and examples." },
  DATA_CORRUPT: { exit: 3, hint: "Run `tidemark check` on it, and restore from an older copy." },
  DATA_TORN: { exit: 3, hint: "Run `tidemark check --repair`: it keeps a copy and cuts the tail." },
  DATA_UNSUPPORTED: { exit: 4, hint: "A newer Tidemark may know it; nothing was guessed." },
  TARGET_CANNOT_HOLD: { exit: 5, hint: "Choose a newer `--target`, or drop it with `--lossy`." },
  LIMIT_EXCEEDED: { exit: 6, hint: "The input asks for more than the named limit allows." },
  FILE_MISSING: { exit: 7, hint: "Check the path." },
  FILE_EXISTS: { exit: 8, hint: "Choose another name, or remove it first." },
  FILE_FAILED: { exit: 9, hint: "Check the disk, its space and the permissions." },
  SERVER_NEEDED: { exit: 10, hint: "Name a stock server with `--server PATH`." },
  SERVER_FAILED: { exit: 11, hint: "Read what the server said above." },
  PROTOCOL_ERROR: { exit: 12, hint: "The peer does not speak RESP as expected." },
  SERVER_UNREACHABLE: { exit: 13, hint: "Check the address, and that the server runs." },
  SERVER_LOST: { exit: 14, hint: "Look into the log of the server; then try again." },
  SERVER_DENIED: { exit: 15, hint: "Check the user, the password and the user's permissions." },
  TLS_FAILED: { exit: 16, hint: "Check the certificates, and that the port speaks TLS." },
  REPLICATION_REFUSED: { exit: 17, hint: "Ask whoever runs the server to allow PSYNC." },
  ABORTED: { exit: 18, hint: "It was stopped on request." },
  OBJECT_MISSING: { exit: 19, hint: "Check the name, and that it is the right repository." },
  STORE_FAILED: { exit: 20, hint: "Look into the log of the storage, or check its disk." },
  STORE_DENIED: { exit: 21, hint: "Check the credentials and what they may do." },
  STORE_UNFIT: { exit: 22, hint: "Choose a storage that does what S3 does." },
  LEASE_HELD: { exit: 23, hint: "Stop the other writer, or take over with `tidemark up --steal`." },
  LEASE_LOST: {
    exit: 24,
    hint: "Another writer has taken over: see who, before this one is started.",
  },
  OUTSIDE_WINDOWS: { exit: 25, hint: "`tidemark status` says what can be restored." },
  TARGET_NOT_EMPTY: { exit: 26, hint: "Empty it with `--overwrite`, or choose another." },
  KEY_NEEDED: { exit: 27, hint: "Name the key that it was encrypted with." },
  CLOCK_DOUBTED: { exit: 28, hint: "Set this machine's clock, or say that it is right." },
  STORE_BUSY: { exit: 75, hint: "Check that the storage can be reached; then try again." },
  SERVER_BUSY: { exit: 75, hint: "Nothing was changed; try again." },
} as const satisfies Record<string, { exit: number; hint: string }>;

export type ErrorCode = keyof typeof kinds;

/**
 * A failure with a stable `code`; anything else that is thrown is a bug in this program.
 *
 * `offset` is the byte position in the input at which the trouble starts, where there is one.
 * Messages read "Cannot <verb> <object>: <state found>" and carry the offset in words as well.
 */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly code: ErrorCode;
  readonly offset: number | undefined;
  readonly hint: string;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; offset?: number; hint?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.offset = options.offset;
    this.hint = options.hint ?? kinds[code].hint;
  }

  /** The exit status that the command line gives for this failure. */
  get exit(): number {
    return kinds[this.code].exit;
  }
}

/** The exit statuses with the codes that cause them, for documentation and its test. */
export const exitStatuses: readonly (readonly [number, ErrorCode])[] = Object.entries(kinds).map(
  ([code, kind]) => [kind.exit, code as ErrorCode] as const,
);

/** Damage at a known byte of an input. */
export function corrupt(offset: number, found: string): Failure {
  return new Failure("DATA_CORRUPT", `${found} at byte ${offset}`, { offset });
}

/** Something well-formed perhaps, but of a version, type or opcode that is not known here. */
export function unsupported(offset: number, found: string): Failure {
  return new Failure("DATA_UNSUPPORTED", `${found} at byte ${offset}`, { offset });
}
