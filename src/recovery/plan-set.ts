/** A set that a plan starts from: what its manifest says, and that its object is the one it tells of. */
import {
  maxManifestBytes,
  parseSetManifest,
  type SetManifest,
  sizeFault,
} from "../archive/backup-set.ts";
import type { Catalogue, ListedSet } from "../archive/catalogue.ts";
import { setObject } from "../archive/layout.ts";
import type { ObjectReader } from "../archive/object/object-reader.ts";
import { Failure } from "../base/errors.ts";
import type { ArchiveView } from "./restore-locate.ts";

export type ReadSet = { readonly manifest: SetManifest };
export type UsableSet = ReadSet & { readonly listed: ListedSet };

/** What is not right with a set, in words; or what is read of it. @throws Failure that is not of the set */
export async function tryUseSet(
  view: ArchiveView,
  instance: string,
  listed: ListedSet,
): Promise<ReadSet | string> {
  try {
    return await useSet(view, instance, listed);
  } catch (error) {
    const isOfSet = /^(DATA_|OBJECT_MISSING|LIMIT_EXCEEDED)/;
    if (!(error instanceof Failure) || !isOfSet.test(error.code)) throw error;
    return error.message.replace(`${refusalOf(listed.name)}: `, "");
  }
}

/** @throws Failure DATA_CORRUPT, OBJECT_MISSING and others of the store */
export async function useSet(
  view: ArchiveView,
  instance: string,
  listed: ListedSet,
): Promise<ReadSet> {
  const { name } = listed;
  const object = setObject(instance, name, "manifest");
  const hint = hintFor(name, "named");
  try {
    const manifest = parseSetManifest(await view.readSmall(object, maxManifestBytes), object);
    const fault = sizeFault(manifest, listed);
    if (fault !== undefined) {
      throw new Failure("DATA_CORRUPT", `${refusalOf(name)}: ${fault}`);
    }
    await openSetObject(view, name, manifest, setObject(instance, name, "snapshot"));
    return { manifest };
  } catch (error) {
    throw error instanceof Failure && error.code.startsWith("DATA_")
      ? withHint(error, hint)
      : error;
  }
}

/** The object of a set, which must be the one that its manifest tells of. @throws Failure */
export async function openSetObject(
  view: ArchiveView,
  name: string,
  { snapshot }: SetManifest,
  object: string,
): Promise<ObjectReader> {
  const reader = await view.openObject(object, snapshot.sizeBytes);
  const { index } = reader;
  if (index.kind === "rdb" && index.rawSha256 === snapshot.rawSha256) return reader;
  const found = "its snapshot is not the one that its manifest tells of";
  throw new Failure("DATA_CORRUPT", `${refusalOf(name)}: ${found}`);
}

function refusalOf(set: string): string {
  return `Cannot restore set "${set}"`;
}

/** What to do about a set that is damaged: it was asked for by name, or is one that could be done without. */
export function hintFor(set: string, use: "named" | "alone" | "with log"): string {
  const verify = `\`tidemark verify ${set}\` says what is damaged of it.`;
  if (use === "named") return `${verify} \`tidemark backups\` lists the others.`;
  const other = use === "alone" ? "An older one" : "An older one, and more log, gives the same";
  return `${verify} ${other}: --without-set ${set}.`;
}

export function withHint(cause: Failure, hint: string): Failure {
  const { code, message, offset } = cause;
  return new Failure(code, message, { cause, hint, ...(offset !== undefined && { offset }) });
}

/** The catalogue as if some sets were not there. Given are names, or beginnings of names. */
export function withoutSets(catalogue: Catalogue, names: readonly string[]): Catalogue {
  if (names.length === 0) return catalogue;
  const isLeft = ({ name }: ListedSet) => !names.some((begin) => name.startsWith(begin));
  return { ...catalogue, sets: catalogue.sets.filter(isLeft) };
}
