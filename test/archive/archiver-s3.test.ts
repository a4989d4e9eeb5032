/** Shipping to storages that others wrote, one of which does not create conditionally. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { Lease } from "../../src/archive/lease.ts";
import { initRepository, openRepository } from "../../src/archive/repository.ts";
import { systemDisk } from "../../src/log/disk.ts";
import { Spool } from "../../src/log/spool.ts";
import { openStore } from "../../src/store/open.ts";
import { missingStorage, startMoto, startRadosgw } from "../store/servers.ts";
import { temporaryFolder } from "../support/folder.ts";
import {
  acquire,
  appendBatch,
  archiverOf,
  instance,
  keeping,
  takeBase,
  verifyArchive,
} from "./shipping.ts";

for (const [id, start] of [
  ["moto", startMoto],
  ["radosgw", startRadosgw],
] as const) {
  suite(`an archiver, on ${id}`, { skip: missingStorage(id) }, () => {
    test("ships all, lets go of what is retired, and keeps a second writer away", async () => {
      using dir = temporaryFolder();
      await using storage = await start();
      const key = { id: "k", key: Buffer.alloc(32, 1) };
      await using making = await openStore(storage.options("archive"));
      await initRepository(making, { key });
      await using store = await openStore(storage.options("archive"));
      const repository = await openRepository(store, { keys: () => key.key });
      await using spool = await Spool.open(join(dir.path, "spool"), { segmentBytes: 4000 });
      await using lease = await acquire(repository);
      const kept = new Map<string, Uint8Array>();
      const archiver = archiverOf({
        ...{ repository, lease, temporaryFolder: join(dir.path, "spool", "archive") },
        spool: keeping(spool, systemDisk, async (line, log) => void kept.set(line, log)),
      });
      for (let i = 0; i < 12; i++) {
        if (i % 8 === 0) await takeBase(spool, 1000 + i);
        appendBatch(spool, 1000 + i);
        await spool.flush();
        await archiver.shipNow();
      }
      await archiver.verifyBases(new AbortController().signal);
      await archiver.shipNow();
      assert.equal((await spool.retired()).length, 0);
      const { lines } = await verifyArchive(repository, { spool, disk: systemDisk, kept });
      assert.equal(lines.length, 2);

      const taken = await Lease.acquire(repository, instance, { owner: "another", steal: true });
      await assert.rejects(lease.check(), { code: "LEASE_LOST", message: /another, process/ });
      appendBatch(spool, 5000);
      await spool.flush();
      await assert.rejects(archiver.shipNow(), { code: "LEASE_LOST" });
      await taken.check();
      await taken.release();
    });

    test("gives the lease to one of those that want it at the same time", async () => {
      await using storage = await start();
      await using store = await openStore(storage.options("archive"));
      const repository = await initRepository(store);
      const owners = ["a", "b", "c", "d"];
      const options = { ttlMs: 4000 };
      const results = await Promise.allSettled(
        owners.map((owner) => Lease.acquire(repository, instance, { owner, ...options })),
      );
      const leases = results.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      assert.equal(leases.length, 1);
      await leases[0]?.check();
      await leases[0]?.release();
    });
  });
}
