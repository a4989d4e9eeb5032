/**
 * Whose copy of a key a restored cluster gets: pure, from who had which slots when.
 *
 * WHY. Each shard's data at a moment T is whole by itself, but while slots move two shards have keys of
 * one slot: those that MIGRATE has moved are with the next owner before it owns the slot, and a change
 * of owners is seen up to some seconds after it was made. So for each slot, and each shard, at T:
 *
 *   owns the slot at T                        "own": its keys are restored, and replace others
 *   is the next owner: the next recorded      "next": its keys are restored where the owner has no copy
 *     change of that slot gives it to it
 *   … but the slot moved as a whole after T   "copy": no key of it is restored
 *   no later change of the slot is recorded   "open": its keys are restored where there is no other copy,
 *     and it does not own it                  and are counted: where they were going, nobody says
 *   any other                                 "left": leftovers; not restored, and counted
 *
 * Only the owner's keys replace others. So the order in which shards are restored does not matter, and
 * it does not either if a shard is restored twice.
 *
 * WHY THE OWNER FIRST. It is what clients did: they asked the owner, and went to the next one for a key that
 * it had no more. With MIGRATE a key is on both sides for the moment of its move, and is the same. But
 * Valkey from 9.0 and Redis from 8.4 can move slots as a whole: then the next owner fills with copies for as
 * long as that takes, while the owner goes on to write. REJECTED: the next owner first. It would be
 * right in the moment between a slot's change of hands and the old owner's removal of its copies, and wrong
 * for all the time before.
 *
 * "copy" is for servers that remove the keys of a slot that has moved by one command (FLUSHSLOT, TRIMSLOTS): then
 * it is known that the next owner had nothing but copies. Valkey 9.1 removes them one by one, as MIGRATE does.
 *
 * LIMITS
 *
 *   Times are those of the shards' sources: where their clocks differ by some milliseconds, a key that moved
 *   just then may be that much older.
 *   In the moment named above, a key that was written since the slot changed hands is older than it was.
 *   While a slot is copied as a whole and no command tells so, a key that its owner has just deleted, and
 *   that the copy still has, comes back.
 *   Of a next owner whose log does not reach back to T nothing is known; the plan says so.
 */
import type { ShardSlots, SlotRange, SlotsChange } from "../archive/cluster-slots.ts";

export const slotRules = { left: 0, own: 1, next: 2, open: 3, copy: 4 } as const;

export const slotCount = 16_384;

/** By slot, one of `slotRules`. */
export type SlotRules = Uint8Array;

export type SlotOwners = {
  /** The shard that has a slot at that moment, and the one that has it next; undefined: none known. */
  readonly owners: readonly (string | undefined)[];
  readonly next: readonly (NextOwner | undefined)[];
};

export type NextOwner = { readonly key: string; readonly change: SlotsChange };

/** Who has the slots from a change on, and who has them next by those that follow it, in order. */
export function slotOwners(change: SlotsChange, later: readonly SlotsChange[]): SlotOwners {
  const owners = ownersOf(change.shards);
  const next: (NextOwner | undefined)[] = Array.from({ length: slotCount });
  for (const each of later) {
    for (const { key, slots } of each.shards) {
      for (const [first, last] of slots) {
        for (let slot = first; slot <= last; slot++) {
          if (owners[slot] !== key) next[slot] ??= { key, change: each };
        }
      }
    }
  }
  return { owners, next };
}

function ownersOf(shards: readonly ShardSlots[]): (string | undefined)[] {
  const owners: (string | undefined)[] = Array.from({ length: slotCount });
  for (const { key, slots } of shards) {
    for (const [first, last] of slots) owners.fill(key, first, last + 1);
  }
  return owners;
}

/** The rules for a shard; `isWhole` says whether a slot moved as a whole after that moment. */
export function rulesOf(
  key: string,
  { owners, next }: SlotOwners,
  isWhole: (slot: number) => boolean,
): SlotRules {
  const { left, own, next: isNext, open, copy } = slotRules;
  return Uint8Array.from({ length: slotCount }, (_, slot) => {
    if (owners[slot] === key) return own;
    const to = next[slot]?.key;
    if (to === undefined) return open;
    if (to !== key) return left;
    return isWhole(slot) ? copy : isNext;
  });
}

/** Slots in ascending order as ranges. */
export function rangesOf(slots: Iterable<number>): SlotRange[] {
  const ranges: [number, number][] = [];
  for (const slot of slots) {
    const last = ranges.at(-1);
    if (last && last[1] === slot - 1) last[1] = slot;
    else ranges.push([slot, slot]);
  }
  return ranges;
}
