/**
 * A snapshot while it is being received: under a temporary name, so that until it is complete it is
 * part of nothing.
 */
import { type Disk, type DiskFile, writeAll } from "./disk.ts";

/**
 * So much is written between two syncs: the last one is then short, and the machine's memory does not
 * fill with pages that all have to be written at once.
 */
const syncEveryBytes = 32 * 1024 * 1024;

export class BaseFile {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #file: DiskFile;
  #size = 0;
  #synced = 0;
  #isOpen = true;

  private constructor(disk: Disk, path: string, file: DiskFile) {
    this.#disk = disk;
    this.#path = path;
    this.#file = file;
  }

  static async create(disk: Disk, path: string): Promise<BaseFile> {
    return new BaseFile(disk, path, await disk.open(path, "create"));
  }

  get sizeBytes(): number {
    return this.#size;
  }

  /** Takes bytes, which are not needed afterwards. Wait for it before the next call. */
  async write(bytes: Uint8Array): Promise<void> {
    await writeAll(this.#file, bytes, this.#size);
    this.#size += bytes.length;
    if (this.#size - this.#synced < syncEveryBytes) return;
    await this.#file.sync();
    this.#synced = this.#size;
  }

  async finish(): Promise<void> {
    await this.#file.sync();
    await this.#close();
  }

  async remove(): Promise<void> {
    await this.#close();
    await this.#disk.remove(this.#path);
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#file.close();
  }
}
