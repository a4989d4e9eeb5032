import { setTimeout as sleep } from "node:timers/promises";

const pollMs = 20;
const limitMs = 20_000;

/** Asks a real server again and again, which tells nobody when it is done. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false>,
): Promise<T> {
  for (let waited = 0; waited < limitMs; waited += pollMs) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    await sleep(pollMs);
  }
  throw new Error(`It did not come true: ${what}`);
}
