/**
 * Counts the memory that code asks for in typed arrays, which is where the codecs keep bytes: an
 * array as large as a hostile length says is seen even where the system never had to provide it.
 */
export type Allocations = {
  /** Bytes of the largest array, and of all together. */
  largest: number;
  total: number;
};

const counted = ["Uint8Array", "Uint32Array", "Int32Array"] as const;

/** What `run` allocates; nothing else may run meanwhile. */
export function countAllocations(run: () => void): Allocations {
  const allocations: Allocations = { largest: 0, total: 0 };
  const originals = counted.map((name) => [name, globalThis[name]] as const);
  try {
    for (const [name, original] of originals) replace(name, original, allocations);
    run();
  } finally {
    for (const [name, original] of originals) Object.assign(globalThis, { [name]: original });
  }
  return allocations;
}

type Constructor = abstract new (...args: never[]) => ArrayBufferView;

function replace(name: string, original: Constructor, allocations: Allocations): void {
  const proxy: Constructor = new Proxy(original, {
    construct(target, args, newTarget) {
      const array: ArrayBufferView = Reflect.construct(
        target,
        args,
        newTarget === proxy ? target : newTarget,
      );
      // An array over a buffer that is there already allocates nothing.
      if (!(args[0] instanceof ArrayBuffer)) {
        allocations.largest = Math.max(allocations.largest, array.byteLength);
        allocations.total += array.byteLength;
      }
      return array;
    },
  });
  Object.assign(globalThis, { [name]: proxy });
}
