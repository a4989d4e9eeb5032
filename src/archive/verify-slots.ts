import { Failure } from "../base/errors.ts";
import type { Abortable, Store } from "../store/store.ts";
import { listSlots, readSlots, slotsObject } from "./cluster-slots.ts";

export type SlotsVerification = {
  readonly cluster: string;
  /** Of slots, that are there and sound. */
  readonly changes: number;
  /** What is wrong, with the name of the object. */
  readonly findings: readonly { readonly object: string; readonly found: string }[];
};

/** They are small, and the storage may be far away. */
const atOnce = 8;

/**
 * Reads back who had which slots of a cluster when. The name of each object has the sum of what it says.
 *
 * @throws Failure of the store
 */
export async function verifySlots(
  store: Store,
  cluster: string,
  options: Abortable = {},
): Promise<SlotsVerification> {
  const names = await listSlots(store, cluster, options);
  const findings: { object: string; found: string }[] = [];
  for (let at = 0; at < names.length; at += atOnce) {
    const jobs = names.slice(at, at + atOnce).map(async (object) => {
      const found = await check(store, cluster, object, options);
      return found === undefined ? [] : [{ object, found }];
    });
    findings.push(...(await Promise.all(jobs)).flat());
  }
  return { cluster, changes: names.length - findings.length, findings };
}

async function check(
  store: Store,
  cluster: string,
  object: string,
  options: Abortable,
): Promise<string | undefined> {
  try {
    const isNamed = slotsObject(cluster, await readSlots(store, object, options)) === object;
    return isNamed ? undefined : `Cannot use "${object}": it does not say what its name does`;
  } catch (error) {
    if (error instanceof Failure && error.code.startsWith("DATA_")) return error.message;
    throw error;
  }
}
