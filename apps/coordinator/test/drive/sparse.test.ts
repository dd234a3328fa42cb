import { afterEach, expect, test } from "vitest";
import { plan, temporary } from "./house.ts";
import { World } from "./world.ts";

const places: { remove(): void }[] = [];
afterEach(() => {
  for (const place of places.splice(0)) place.remove();
});

test("more than a hundred devices in one sum, some lost, and a coordinator killed in between", {
  timeout: 180_000,
}, async () => {
  const devices = Array.from({ length: 104 }, (_, at) => `d${100 + at}`);
  const place = temporary();
  places.push(place);
  const one = new World(place.folder, plan({ rounds: 1, cohort: { min: 90, max: 110 } }), devices);
  await one.boot();
  const session = () => {
    const sum = one.driver.round?.cohorts[0]?.sum;
    return sum?.kind === "secure" ? sum.session : null;
  };
  const lose = async (device: string) => {
    one.here.delete(device);
    await one.driver.submit(device, { case: "disconnected", value: true });
  };
  await one.live(() => session()?.phase === "picking");
  await lose("d100");
  await one.live(() => session()?.phase === "sharing");
  await one.kill();
  await one.boot();
  expect(session()?.picked.size).toBe(103);
  await one.live(() => session()?.phase === "masking");
  for (const device of ["d101", "d102", "d103"]) await lose(device);
  await one.live();
  const { state, reason, history } = one.driver.header;
  expect({ state, reason }).toEqual({ state: "finished", reason: "" });
  // The second round only evaluates, with the hundred that are left: everyone with everyone again.
  expect(history.map(({ survivors }) => survivors)).toEqual([100, 100]);
  expect(history[0]!.examples).toBeCloseTo(1000, 0);
  await one.close();
});
