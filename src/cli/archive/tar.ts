/**
 * A tape archive of some files, as `tar` reads it: POSIX ustar, with GNU's binary sizes above 8 GiB.
 *
 *   header, 512 bytes   name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1
 *                       | link 100 | "ustar" 0 "00" | user 32 | group 32 | zeros
 *   content, with zeros up to a multiple of 512; at the end, two blocks of zeros
 *
 * Own code: it is the writing of plain files with short names, and nothing else of the format is needed.
 */
import { createReadStream, statSync } from "node:fs";
import { fileFailure } from "../../log/input-file.ts";

const blockBytes = 512;
/** What eleven octal digits hold. */
const maxOctal = 8 ** 11 - 1;

export type TarFile = { readonly path: string; readonly name: string };

/** Chunks are owned by the consumer. @throws Failure of a file */
export async function* writeTar(
  files: readonly TarFile[],
  onRead: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for (const { path, name } of files) {
    try {
      const { size, mtimeMs } = statSync(path);
      yield tarHeader(name, size, mtimeMs);
      let left = size;
      for await (const chunk of createReadStream(path, { end: Math.max(0, size - 1) })) {
        const bytes = (chunk as Uint8Array).subarray(0, left);
        left -= bytes.length;
        onRead(bytes.length);
        if (bytes.length > 0) yield bytes;
      }
      yield Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);
    } catch (cause) {
      throw fileFailure("read", path, cause);
    }
  }
  yield Buffer.alloc(2 * blockBytes);
}

/** The header of a plain file. Its name has at most 100 bytes. */
export function tarHeader(name: string, sizeBytes: number, mtimeMs: number): Uint8Array {
  const header = Buffer.alloc(blockBytes);
  header.write(name, 0, 100, "utf8");
  header.write("0000600\0", 100, "latin1");
  header.write("0000000\0", 108, "latin1");
  header.write("0000000\0", 116, "latin1");
  if (sizeBytes <= maxOctal) header.write(octal(sizeBytes, 11), 124, "latin1");
  else {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(sizeBytes), 128);
  }
  header.write(octal(Math.floor(mtimeMs / 1000), 11), 136, "latin1");
  header.write("        0", 148, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)} `, 148, "latin1");
  return header;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, "0")}\0`;
}
