/**
 * A disk in memory on which everything goes wrong that can, from a seed.
 *
 * WHY. The moments that matter cannot be met on a real disk: the process or the machine ends between
 * two calls, or in the middle of one. Here each call is numbered. At the one that is chosen the
 * world stands still: nothing of it or after it ever returns. `restart()` gives the disk that the
 * next process finds.
 *
 * WHAT SURVIVES A POWER LOSS, per file: what was synced. What was not is there up to some byte, or as
 * zeros, or page by page in any mixture of both; a cut may have come undone. Names: of what was done
 * since a folder was synced either the first so many, or any of them; a rename is one thing.
 *
 * A SYNC THAT FAILS is meant as Linux has it: what was to be written counts as written from then on.
 * A later sync succeeds and does not bring it to the disk, and it may be gone from memory too.
 */
import { basename, dirname } from "node:path";
import { Failure } from "../base/errors.ts";
import type { Disk, DiskFile, OpenMode } from "./disk.ts";
import { fileFailure } from "./input-file.ts";

export type Random = {
  /** A whole number below `bound`. */
  readonly below: (bound: number) => number;
  readonly chance: (probability: number) => boolean;
};

/** The same numbers for the same seed (mulberry32). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (bound) => Math.floor(next() * bound), chance: (p) => next() < p };
}

type FileNode = {
  readonly kind: "file";
  bytes: Uint8Array;
  synced: Uint8Array;
  /** What a failed sync has lost: from, to. */
  lost: readonly [number, number] | undefined;
};
type FolderNode = { readonly kind: "folder"; names: Map<string, Node>; durable: Map<string, Node> };
type Node = FileNode | FolderNode;
type Change = {
  readonly folder: FolderNode;
  readonly name: string;
  readonly node: Node | undefined;
};

const pageBytes = 64;

export class MemoryDisk implements Disk {
  readonly #random: Random;
  readonly #root: FolderNode;
  #unsynced: Change[][] = [];
  readonly #locked = new Set<string>();
  readonly #crashed = Promise.withResolvers<void>();
  #isCrashed = false;
  /** Calls so far that change something. */
  calls = 0;
  /** The call at which the world stands still. */
  crashAt = Number.POSITIVE_INFINITY;
  /** Bytes that all files together may have. */
  spaceBytes = Number.POSITIVE_INFINITY;
  /** How likely a write takes only part of what it is given. */
  shortWrites = 0;
  /** How likely a call fails, and a sync. */
  errors = 0;
  syncErrors = 0;
  /** The next so many syncs of files fail. */
  failSyncs = 0;
  /** How many have failed. */
  failedSyncs = 0;
  /** Syncs of files wait for this. */
  slowSync: Promise<void> | undefined;

  constructor(random: Random, root: FolderNode = folderNode()) {
    this.#random = random;
    this.#root = root;
  }

  /** Resolves when the world stands still. */
  get crashed(): Promise<void> {
    return this.#crashed.promise;
  }

  get hasCrashed(): boolean {
    return this.#isCrashed;
  }

  /** Ends the process now: nothing that it has under way returns, and nothing of it comes after. */
  async end(): Promise<void> {
    this.#isCrashed = true;
    this.#crashed.resolve();
    // What a call that was let through does, is done before.
    await new Promise(setImmediate);
  }

  /** The disk after the end of the process, or of the machine. */
  restart({ losesPower }: { losesPower: boolean }): MemoryDisk {
    if (losesPower) {
      const random = this.#random;
      const isPrefix = random.chance(0.5);
      const length = random.below(this.#unsynced.length + 1);
      const kept = this.#unsynced.filter((_, i) => (isPrefix ? i < length : random.chance(0.5)));
      for (const changes of kept) apply(changes, "durable");
      lose(this.#root, random);
      return new MemoryDisk(random, this.#root);
    }
    const next = new MemoryDisk(this.#random, this.#root);
    next.#unsynced = this.#unsynced;
    return next;
  }

  /** What is in a file; undefined where there is none. */
  peek(path: string): Uint8Array | undefined {
    const node = this.#find(path);
    return node?.kind === "file" ? node.bytes : undefined;
  }

  /** Changes a file as a bad disk does. */
  poke(path: string, change: (bytes: Uint8Array) => Uint8Array): void {
    const node = this.#find(path);
    if (node?.kind !== "file") throw new Error(`There is no file "${path}"`);
    node.bytes = change(Uint8Array.from(node.bytes));
    node.synced = Uint8Array.from(node.bytes);
  }

  get usedBytes(): number {
    return sizeOf(this.#root);
  }

  async lock(folder: string): Promise<AsyncDisposable> {
    if (this.#locked.has(folder)) {
      throw new Failure("FILE_EXISTS", `Cannot write to "${folder}": another spool does`);
    }
    this.#locked.add(folder);
    return { [Symbol.asyncDispose]: async () => void this.#locked.delete(folder) };
  }

  async makeFolder(path: string): Promise<void> {
    if (path === "/" || this.#find(path) !== undefined) return;
    await this.makeFolder(dirname(path));
    await this.#call("make", path);
    this.#change([
      { folder: this.#folder(dirname(path)), name: basename(path), node: folderNode() },
    ]);
  }

  async removeFolder(path: string): Promise<void> {
    await this.#call("remove", path);
    const node = this.#find(path);
    if (node?.kind !== "folder" || node.names.size > 0) return;
    this.#change([{ folder: this.#folder(dirname(path)), name: basename(path), node: undefined }]);
  }

  async list(path: string): Promise<string[]> {
    const node = this.#find(path);
    return node?.kind === "folder" ? [...node.names.keys()].sort() : [];
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const known = this.#find(path);
    if (mode !== "create") {
      if (known?.kind === "file") return this.#file(path, known);
      throw fileFailure("open", path, systemError("ENOENT"));
    }
    await this.#call("open", path);
    if (known?.kind === "file") {
      known.bytes = new Uint8Array(0);
      return this.#file(path, known);
    }
    const node: FileNode = { kind: "file", ...noBytes(), lost: undefined };
    this.#change([{ folder: this.#folder(dirname(path)), name: basename(path), node }]);
    return this.#file(path, node);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#call("rename", from);
    const node = this.#find(from);
    if (node === undefined) throw fileFailure("rename", from, systemError("ENOENT"));
    this.#change([
      { folder: this.#folder(dirname(to)), name: basename(to), node },
      { folder: this.#folder(dirname(from)), name: basename(from), node: undefined },
    ]);
  }

  async remove(path: string): Promise<void> {
    await this.#call("remove", path);
    if (this.#find(path) === undefined) return;
    this.#change([{ folder: this.#folder(dirname(path)), name: basename(path), node: undefined }]);
  }

  async syncFolder(path: string): Promise<void> {
    await this.#call("sync", path);
    const folder = this.#folder(path);
    const isHere = (changes: readonly Change[]) => changes.some((each) => each.folder === folder);
    for (const changes of this.#unsynced.filter(isHere)) apply(changes, "durable");
    this.#unsynced = this.#unsynced.filter((changes) => !isHere(changes));
  }

  async freeBytes(): Promise<number> {
    return this.spaceBytes - this.usedBytes;
  }

  #file(path: string, node: FileNode): DiskFile {
    return {
      write: (bytes, at) => this.#write(path, node, bytes, at),
      read: async (bytes, at) => {
        const found = node.bytes.subarray(at, at + bytes.length);
        bytes.set(found);
        return found.length;
      },
      size: async () => node.bytes.length,
      truncate: async (size) => {
        await this.#call("cut", path);
        node.bytes = node.bytes.slice(0, size);
      },
      sync: () => this.#sync(path, node),
      close: async () => {},
    };
  }

  async #write(path: string, node: FileNode, bytes: Uint8Array, at: number): Promise<number> {
    const random = this.#random;
    let size = bytes.length;
    const put = () => {
      const room = this.spaceBytes - this.usedBytes + Math.max(node.bytes.length - at, 0);
      size = Math.max(Math.min(size, room), 0);
      const grown = new Uint8Array(Math.max(node.bytes.length, at + size));
      grown.set(node.bytes);
      grown.set(bytes.subarray(0, size), at);
      node.bytes = grown;
      if (node.lost !== undefined && at < node.lost[1]) node.lost = [node.lost[0], at];
    };
    await this.#call("write", path, () => {
      size = random.below(size + 1);
      put();
    });
    if (size > 1 && random.chance(this.shortWrites)) size = 1 + random.below(size - 1);
    put();
    if (size === 0 && bytes.length > 0) throw fileFailure("write", path, systemError("ENOSPC"));
    return size;
  }

  async #sync(path: string, node: FileNode): Promise<void> {
    const bytes = Uint8Array.from(node.bytes);
    await this.#call("sync", path);
    if (this.slowSync !== undefined) await this.slowSync;
    if (this.failSyncs > 0 || this.#random.chance(this.syncErrors)) {
      this.failedSyncs++;
      this.failSyncs = Math.max(0, this.failSyncs - 1);
      const from = Math.min(node.synced.length, node.bytes.length);
      node.lost = [from, node.bytes.length];
      if (this.#random.chance(0.5)) {
        node.bytes = Uint8Array.from(node.bytes);
        node.bytes.fill(0, from + this.#random.below(node.bytes.length - from + 1));
      }
      throw fileFailure("sync", path, systemError("EIO"));
    }
    if (node.lost !== undefined) bytes.fill(0, node.lost[0], node.lost[1]);
    node.synced = bytes;
  }

  /** Counts a call; it may be the last one, of which `partly` does a part, or fail. */
  async #call(verb: string, path: string, partly: () => void = () => {}): Promise<void> {
    // Some calls take longer than others.
    for (let turns = this.#random.below(3); turns > 0; turns--) await Promise.resolve();
    if (this.#isCrashed) await new Promise(() => {});
    this.calls++;
    if (this.calls >= this.crashAt) {
      this.#isCrashed = true;
      partly();
      this.#crashed.resolve();
      await new Promise(() => {});
    }
    if (this.#random.chance(this.errors)) throw fileFailure(verb, path, systemError("EIO"));
  }

  #change(changes: Change[]): void {
    apply(changes, "names");
    this.#unsynced.push(changes);
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of path.split("/").filter((part) => part !== "")) {
      node = node?.kind === "folder" ? node.names.get(name) : undefined;
    }
    return node;
  }

  #folder(path: string): FolderNode {
    const node = this.#find(path);
    if (node?.kind === "folder") return node;
    throw fileFailure("open", path, systemError("ENOENT"));
  }
}

function folderNode(): FolderNode {
  return { kind: "folder", names: new Map(), durable: new Map() };
}

function noBytes() {
  return { bytes: new Uint8Array(0), synced: new Uint8Array(0) };
}

function apply(changes: readonly Change[], to: "names" | "durable"): void {
  for (const { folder, name, node } of changes) {
    if (node === undefined) folder[to].delete(name);
    else folder[to].set(name, node);
  }
}

/** Leaves in a folder what the power loss has left. */
function lose(folder: FolderNode, random: Random): void {
  folder.names = new Map(folder.durable);
  for (const node of folder.names.values()) {
    if (node.kind === "folder") {
      lose(node, random);
      continue;
    }
    node.bytes = surviving(node, random);
    node.synced = Uint8Array.from(node.bytes);
    node.lost = undefined;
  }
}

function surviving({ bytes, synced, lost }: FileNode, random: Random): Uint8Array {
  // What was cut, or emptied, and not synced: either state.
  if (bytes.length < synced.length) return random.chance(0.5) ? synced : bytes.slice();
  const result = bytes.slice(0, synced.length + random.below(bytes.length - synced.length + 1));
  if (lost !== undefined) result.fill(0, Math.min(lost[0], result.length), lost[1]);
  const kind = random.below(3);
  if (kind === 0) return result;
  const isZero = (at: number) => (kind === 1 ? at >= start : random.chance(0.5));
  const start = synced.length + random.below(result.length - synced.length + 1);
  for (let at = synced.length; at < result.length; at += pageBytes - (at % pageBytes)) {
    if (isZero(at)) result.fill(0, at, at + pageBytes - (at % pageBytes));
  }
  return result;
}

function sizeOf(node: Node): number {
  if (node.kind === "file") return node.bytes.length;
  return [...node.names.values()].reduce((sum, each) => sum + sizeOf(each), 0);
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}
