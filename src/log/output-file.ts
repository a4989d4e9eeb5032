import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { Failure } from "../base/errors.ts";
import { fileFailure } from "./input-file.ts";

const bufferBytes = 512 * 1024;

/**
 * A file that is written once, from start to end, and is there whole or not at all.
 *
 * It is written beside its place, as `….part`. `publish()` syncs and renames it, then syncs the
 * folder, without which the rename itself may be lost with the power. A crash leaves the old file,
 * the new one or a stray `.part`, never half of one.
 */
export class OutputFile implements Disposable {
  readonly #path: string;
  readonly #part: string;
  readonly #buffer = Buffer.allocUnsafe(bufferBytes);
  #fd: number | undefined;
  #hasItsName = false;
  #filled = 0;
  #size = 0;

  private constructor(path: string, part: string, fd: number) {
    this.#path = path;
    this.#part = part;
    this.#fd = fd;
  }

  /** @throws Failure FILE_EXISTS where there is such a file that may not be replaced, FILE_FAILED */
  static create(path: string, mayReplace = false): OutputFile {
    if (!mayReplace && existsSync(path)) {
      throw new Failure("FILE_EXISTS", `Cannot write "${path}": it exists`);
    }
    const part = `${path}.part`;
    try {
      return new OutputFile(path, part, openSync(part, "w"));
    } catch (cause) {
      throw fileFailure("write", part, cause);
    }
  }

  /** Bytes so far. */
  get sizeBytes(): number {
    return this.#size;
  }

  /** Takes bytes; they are the caller's again when it returns. */
  write(bytes: Uint8Array): void {
    this.#size += bytes.length;
    if (this.#filled + bytes.length > bufferBytes) this.#flush();
    if (bytes.length >= bufferBytes) {
      this.#writeAll(bytes);
      return;
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** Takes text of one character a byte. Millions of short ones cost no memory this way. */
  writeLatin1(text: string): void {
    if (text.length >= bufferBytes) {
      this.write(Buffer.from(text, "latin1"));
      return;
    }
    if (this.#filled + text.length > bufferBytes) this.#flush();
    this.#buffer.write(text, this.#filled, "latin1");
    this.#filled += text.length;
    this.#size += text.length;
  }

  #flush(): void {
    this.#writeAll(this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }

  #writeAll(bytes: Uint8Array): void {
    const fd = this.#fd as number;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
    } catch (cause) {
      throw fileFailure("write", this.#part, cause);
    }
  }

  /** Makes the file durable and gives it its name. */
  publish(): void {
    this.#flush();
    try {
      fdatasyncSync(this.#fd as number);
      this.#close();
      renameSync(this.#part, this.#path);
      this.#hasItsName = true;
      syncFolder(dirname(this.#path));
    } catch (cause) {
      throw fileFailure("write", this.#path, cause);
    }
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Removes what was not published. */
  [Symbol.dispose](): void {
    this.#close();
    if (!this.#hasItsName) rmSync(this.#part, { force: true });
  }
}

/** Makes the names in a folder durable. */
export function syncFolder(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
