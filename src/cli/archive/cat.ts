/** The command `cat`. */
import { openObject } from "../../archive/repository.ts";
import { Failure } from "../../base/errors.ts";
import type { OpenRepository } from "../../daemon/open-repository.ts";
import { Progress } from "../render/progress.ts";
import { mustNotBeTerminal, writeOutputSlowly } from "../standard-output.ts";
import { Places } from "./place.ts";
import type { PlaceFlags } from "./place-options.ts";

export async function catObject(object: string, flags: PlaceFlags): Promise<void> {
  if (object.endsWith(".zst")) mustNotBeTerminal("an archived object");
  await using places = await Places.open(flags);
  const repositories = new Set(places.all.map(({ repository }) => repository));
  for (const repository of repositories) {
    const sizeBytes = await findSize(repository, object);
    if (sizeBytes === undefined) continue;
    await print(repository, object, sizeBytes);
    return;
  }
  throw new Failure("OBJECT_MISSING", `Cannot find object "${object}"`, {
    hint: "`tidemark show SET --json` and the repository's own listing have the names.",
  });
}

/** Of what is compressed, `openObject()` gives the plain bytes; all else lies there as it is. */
async function print(repository: OpenRepository, object: string, sizeBytes: number): Promise<void> {
  if (!object.endsWith(".zst")) {
    for await (const chunk of repository.store.read(object)) await writeOutputSlowly(chunk);
    return;
  }
  const reader = await openObject(repository, object, sizeBytes);
  using progress = new Progress(reader.rawStarts.at(-1) ?? 0);
  for await (const chunk of reader.rawBytes()) {
    await writeOutputSlowly(chunk);
    progress.add(chunk.length);
  }
}

async function findSize({ store }: OpenRepository, object: string): Promise<number | undefined> {
  for await (const { name, sizeBytes } of store.list(object)) {
    return name === object ? sizeBytes : undefined;
  }
  return undefined;
}
