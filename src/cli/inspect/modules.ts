import type { ModuleReport } from "./report.ts";

/** Module names come from the file: a hostile one could make up as many as it likes. */
const maxModules = 256;
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** Counts keys and records of modules by the name of the type that wrote them. */
export class Modules {
  readonly #modules = new Map<string, { keys: number; auxRecords: number }>();

  /** Counts a value or record, of which these are the first bytes. */
  count(bytes: Uint8Array, isKey: boolean): void {
    const name = readName(bytes);
    let module = this.#modules.get(name);
    if (module === undefined) {
      if (this.#modules.size === maxModules) return;
      module = { keys: 0, auxRecords: 0 };
      this.#modules.set(name, module);
    }
    if (isKey) module.keys++;
    else module.auxRecords++;
  }

  report(): ModuleReport[] {
    return Array.from(this.#modules, ([name, counts]) => ({ name, ...counts }));
  }
}

/** Nine letters of 6 bits, then 10 bits of version, in a length of 64 bits. */
function readName(bytes: Uint8Array): string {
  if (bytes[0] !== 0x81 || bytes.length < 9) return "unknown";
  const view = new DataView(bytes.buffer, bytes.byteOffset + 1, 8);
  const id = view.getBigUint64(0);
  let name = "";
  for (let shift = 58n; shift >= 10n; shift -= 6n) name += letters[Number((id >> shift) & 63n)];
  return name;
}
