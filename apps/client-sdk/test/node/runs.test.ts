import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DeviceEvent } from "../../src/events.ts";
import { Device, join } from "../../src/node/index.ts";
import { clouds, prepared } from "../mlp.ts";

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];
let home: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-runs-"));
  const folder = path(home, "federation");
  await initFederation({ folder, name: "test", host: "127.0.0.1", port: 1, random, nowMs: Date.now() });
  server = await serveFederation({ folder, port: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

const train = { optimiser: { name: "sgd", learningRate: 0.02 }, steps: 4, batchSize: 8 };
const settings = (name: string, more = {}) => prepared({ name, rounds: 2, train, ...more });

test("three devices serve two runs at once; one waits until they charge", { timeout: 120_000 }, async () => {
  const federation = path(home, "federation");
  const { coordinator, address } = server;
  const events: DeviceEvent[] = [];
  let charging = false;
  const devices = await Promise.all(
    NAMES.map(async (name) => {
      const token = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
      const folder = path(home, name);
      await join({ joinFile: joinFileText({ ...token, address }), folder, random });
      // One of them has no stream, and asks.
      const own = { state: () => ({ charging }), serves: "day", stream: name !== "eve" };
      const hear = (event: DeviceEvent) => void events.push(event);
      return await Device.open({ folder, data: clouds(40, seededRandom(name)), events: hear, ...own });
    }),
  );
  const stop = new AbortController();
  const taking = devices.map((device) => device.participate({ once: false, signal: stop.signal }));
  const owner = await openOwner(federation);
  const [day, night] = [
    settings("day"),
    settings("night", { eligibility: { charging: true, minExamples: 20 } }),
  ];
  for (const bytes of [day.base, day.initial, night.initial])
    await coordinator.parts.artifacts.putBytes(bytes);
  const [one, two] = [
    await coordinator.startRun(signPlan(day.plan, owner)),
    await coordinator.startRun(signPlan(night.plan, owner)),
  ];
  const over = (run: string) => coordinator.driver(run).header.state !== "running";
  const until = async (done: () => boolean) => {
    while (!done()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await until(() => coordinator.driver(one).header.round >= 1);
  expect(coordinator.driver(two).header.history).toEqual([]);
  expect([...coordinator.dispatch.standings.reasons(two)]).toEqual([["not charging", 3]]);
  charging = true;
  await Promise.all(devices.map((device) => device.stateChanged()));
  await until(() => over(one) && over(two));
  const ends = [one, two].map((run) => coordinator.driver(run).header);
  expect(ends.map(({ state, reason }) => [state, reason])).toEqual([
    ["finished", ""],
    ["finished", ""],
  ]);
  for (const { history } of ends) expect(history.map(({ survivors }) => survivors)).toEqual([3, 3, 3]);
  await until(() => events.filter(({ kind }) => kind === "runOver").length === 6);
  stop.abort();
  const taken = await Promise.all(taking);
  for (const { runs } of taken) expect(runs.map(({ run }) => run).sort()).toEqual([one, two].sort());
  expect(events.filter(({ kind }) => kind === "refused")).toEqual([]);
  // The app's model is of the run that it serves, whichever released last.
  expect(devices.map((device) => device.model().release?.run)).toEqual([one, one, one]);
  await Promise.all(devices.map((device) => device.close()));
});
