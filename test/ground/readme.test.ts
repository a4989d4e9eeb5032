import assert from "node:assert/strict";
import { test } from "node:test";
import { readExamples, runExample } from "../support/readme.ts";

const examples = readExamples();

test("the README has examples", () => assert.ok(examples.length >= 5));

for (const { command, printed } of examples) {
  test(`the README is true: ${command}`, () => assert.equal(runExample(command), printed));
}
