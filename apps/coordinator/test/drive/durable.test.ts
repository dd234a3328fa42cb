import { afterEach, describe, expect, test } from "vitest";
import { plan, type Trouble, temporary } from "./house.ts";
import { World } from "./world.ts";

/**
 * docs/reliability.md, promise 1: acknowledged means durable and counted exactly once, whatever is killed and
 * when.
 */

const ABC = ["a", "b", "c"];
const open: { remove(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.remove();
});

function world(devices: readonly string[] = ABC, change: Parameters<typeof plan>[0] = {}): World {
  const place = temporary();
  open.push(place);
  return new World(place.folder, plan(change), devices);
}

/** A whole run without trouble: what every other one is compared with. */
async function undisturbed(): Promise<{ traces: unknown; operations: string[] }> {
  const quiet = world();
  await quiet.boot();
  expect(await quiet.live()).toBe(true);
  const traces = await quiet.traces();
  const { header } = quiet.driver;
  expect([header.state, header.version, header.attempt]).toEqual(["finished", 1, 0]);
  expect(header.history.map(({ survivors }) => survivors)).toEqual([3, 3]);
  await quiet.close();
  return { traces, operations: quiet.life.weather.names };
}

/** The run with troubles, in as many lives as they take; what it left, and what it acknowledged. */
async function disturbed(trouble: Trouble): Promise<World> {
  const run = world();
  await run.boot([trouble]);
  if (!(await run.live())) {
    await run.kill();
    await run.boot();
    expect(await run.live()).toBe(true);
  }
  return run;
}

describe("a coordinator that is killed at a storage operation", () => {
  test("finishes the run with the same adapter, bit for bit, and everyone counted once", {
    timeout: 300_000,
  }, async () => {
    const { traces, operations } = await undisturbed();
    expect(operations.length).toBeGreaterThan(15);
    for (const at of operations.keys()) {
      for (const when of ["before", "after"] as const) {
        const run = await disturbed({ at, when, how: "hang" });
        expect(await run.traces(), `killed ${when} ${operations[at]} ${at}`).toEqual(traces);
        await run.close();
      }
    }
  });
});

describe("storage that fails once", () => {
  test("is asked again: nothing is lost, nothing is counted twice", { timeout: 300_000 }, async () => {
    const { traces, operations } = await undisturbed();
    for (const at of operations.keys()) {
      if (at === 0) continue;
      for (const when of ["before", "after"] as const) {
        const run = await disturbed({ at, when, how: "throw" });
        expect(await run.traces(), `EIO ${when} ${operations[at]} ${at}`).toEqual(traces);
        await run.close();
      }
    }
  });
});
