import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { Failure } from "../base/errors.ts";

/** How long a command may take to give a password, and how much it may say. */
const commandTimeoutMs = 30_000;
const maxCommandBytes = 64 * 1024;

const run = promisify(execFile);

/** What it is, for messages. */
export type SecretNoun = "password" | "key";

type Origin =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "file"; readonly path: string; readonly noun: SecretNoun }
  | { readonly kind: "command"; readonly command: string; readonly noun: SecretNoun };

/**
 * A password, or where to get it. It is fetched anew for each connection, so that one that was
 * rotated meanwhile is the one that is used. Neither JSON nor `inspect()` shows anything of it.
 */
export class Secret {
  readonly #origin: Origin;

  private constructor(origin: Origin) {
    this.#origin = origin;
  }

  static text(text: string): Secret {
    return new Secret({ kind: "text", text });
  }

  /** What a file holds, without the line end behind it. */
  static file(path: string, noun: SecretNoun = "password"): Secret {
    return new Secret({ kind: "file", path, noun });
  }

  /** What a command of the shell prints, without the line end behind it. */
  static command(command: string, noun: SecretNoun = "password"): Secret {
    return new Secret({ kind: "command", command, noun });
  }

  /** @throws Failure FILE_MISSING, FILE_FAILED, USAGE */
  async reveal(signal?: AbortSignal): Promise<string> {
    const origin = this.#origin;
    switch (origin.kind) {
      case "text":
        return origin.text;
      case "file":
        return withoutLineEnd(await readSecretFile(origin), `"${origin.path}"`, origin.noun);
      case "command":
        return withoutLineEnd(await runCommand(origin, signal), "the command for it", origin.noun);
    }
  }
}

/** A user's name, where it is not the default one, and the password. */
export type Credentials = { readonly user?: string | undefined; readonly password: Secret };

type NamedFile = { readonly path: string; readonly noun: SecretNoun };

async function readSecretFile({ path, noun }: NamedFile): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const found = isMissing ? "there is no such file" : (cause as Error).message;
    const code = isMissing ? "FILE_MISSING" : "FILE_FAILED";
    throw new Failure(code, `Cannot read the ${noun} from "${path}": ${found}`, { cause });
  }
}

type NamedCommand = { readonly command: string; readonly noun: SecretNoun };

async function runCommand(
  { command, noun }: NamedCommand,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    const { stdout } = await run("/bin/sh", ["-c", command], {
      timeout: commandTimeoutMs,
      maxBuffer: maxCommandBytes,
      ...(signal && { signal }),
    });
    return stdout;
  } catch (error) {
    // No cause: it holds what the command printed, and that may be the password.
    const { code, killed } = error as { code?: string | number | null; killed?: boolean };
    const found = killed ? "it did not end in time" : `it ended with ${code ?? "a signal"}`;
    throw new Failure("USAGE", `Cannot get the ${noun} from the command for it: ${found}`, {
      hint: `Run the command by hand: it must print the ${noun}, and end with status 0.`,
    });
  }
}

function withoutLineEnd(text: string, origin: string, noun: SecretNoun): string {
  const secret = text.replace(/\r?\n$/, "");
  if (secret !== "") return secret;
  throw new Failure("USAGE", `Cannot get the ${noun} from ${origin}: it gives nothing`, {
    hint: `It must hold the ${noun}, and nothing else.`,
  });
}
