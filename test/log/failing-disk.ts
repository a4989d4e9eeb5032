import { type Disk, type DiskFile, systemDisk } from "../../src/log/disk.ts";
import { fileFailure } from "../../src/log/input-file.ts";

export type DiskCall = "write" | "sync" | "truncate" | "open" | "rename" | "sync folder";

/** The disk of this machine, with calls that fail as one does whose medium is at its end. */
export function failingDisk(fails: (call: DiskCall) => boolean): Disk {
  const before = <A extends unknown[], R>(
    call: DiskCall,
    path: string,
    action: (...args: A) => Promise<R>,
  ) => {
    return async (...args: A): Promise<R> => {
      if (!fails(call)) return await action(...args);
      const cause = Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
      throw fileFailure(call, path, cause);
    };
  };
  const wrap = (path: string, file: DiskFile): DiskFile => ({
    write: before("write", path, (bytes: Uint8Array, at: number) => file.write(bytes, at)),
    read: (bytes, at) => file.read(bytes, at),
    size: () => file.size(),
    truncate: before("truncate", path, (size: number) => file.truncate(size)),
    sync: before("sync", path, () => file.sync()),
    close: () => file.close(),
  });
  return {
    ...systemDisk,
    open: async (path, mode) => {
      const open = before("open", path, () => systemDisk.open(path, mode));
      return wrap(path, mode === "read" ? await systemDisk.open(path, mode) : await open());
    },
    rename: (from, to) => before("rename", from, () => systemDisk.rename(from, to))(),
    syncFolder: (path) => before("sync folder", path, () => systemDisk.syncFolder(path))(),
  };
}
