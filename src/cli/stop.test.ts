import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { runNode } from "../../test/cli/tidemark.ts";

const module = new URL("stop.ts", import.meta.url).href;

/** Runs lines in a process that answers signals, and prints what is thrown. */
function run(lines: string) {
  const script = `
    import { catchSignals, stoppable, untilStopped } from ${JSON.stringify(module)};
    const send = (signal) => process.kill(process.pid, signal);
    const ended = (signal) => new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason)));
    const alive = setInterval(() => {}, 1000);
    process.on("uncaughtException", (error) => {
      console.log(error.code, error.message);
      process.exit(error.exit);
    });
    catchSignals();
    try { ${lines} } catch (error) {
      console.log(error.code, error.message, "|", error.hint);
      process.exitCode = error.exit ?? 70;
    }
    clearInterval(alive);`;
  return runNode("--input-type=module", "-e", script);
}

const what = `{ doing: "finish it", left: "Nothing was left." }`;

suite("stoppable()", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    test(`stops what runs on ${signal}, and says what is left`, async () => {
      const { status, stdout } = await run(
        `await stoppable(${what}, async (until) => { send("${signal}"); await ended(until); });`,
      );
      assert.equal(
        stdout,
        `ABORTED Cannot finish it: it was stopped by ${signal} | Nothing was left.\n`,
      );
      assert.equal(status, 18);
    });
  }

  test("lets what ends in spite of it end, and what fails without it fail", async () => {
    const done = await run(
      `const n = await stoppable(${what}, async (until) => {
         send("SIGINT"); await ended(until).catch(() => {}); return 7; });
       console.log(n);`,
    );
    assert.deepEqual([done.status, done.stdout], [0, "7\n"]);
    const failed = await run(`await stoppable(${what}, async () => { throw new Error("own"); });`);
    assert.equal(failed.stdout, "undefined own | undefined\n");
  });

  test("hides no failure to put things in order", async () => {
    const { stdout } = await run(
      `try {
         await stoppable(${what}, async (until) => {
           using it = { [Symbol.dispose]: () => { throw new Error("it stays") } };
           send("SIGINT"); await ended(until); });
       } catch (error) { console.log(error.error.message, "|", error.suppressed.message); }`,
    );
    assert.equal(stdout, "it stays | Stopped by SIGINT\n");
  });
});

test("a second signal ends at once what does not stop", async () => {
  const { status, stdout } = await run(
    `await stoppable(${what}, async (until) => {
       send("SIGINT"); await ended(until).catch(() => {});
       console.log("still there"); send("SIGTERM"); await new Promise(() => {}); });`,
  );
  assert.deepEqual([status, stdout], [null, "still there\n"]);
});

test("untilStopped() takes a signal for no failure, and other failures for what they are", async () => {
  const ended = await run(
    `await untilStopped(async (until) => { send("SIGHUP"); await ended(until); });`,
  );
  assert.deepEqual([ended.status, ended.stdout], [0, ""]);
  const failed = await run(
    `await untilStopped(async (until) => {
       send("SIGTERM"); await ended(until).catch(() => { throw new Error("disk full"); }); });`,
  );
  assert.match(failed.stdout, /disk full/);
  assert.equal(failed.status, 70);
});

test("what has nothing to put in order is ended where it is", async () => {
  const { status, stdout } = await run(`send("SIGTERM"); await new Promise(() => {});`);
  assert.deepEqual([status, stdout], [18, "ABORTED Stopped by SIGTERM\n"]);
});
