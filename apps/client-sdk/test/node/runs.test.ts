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

/** Joined, each in a folder of its own. */
async function opened(name: string, own: Partial<Parameters<typeof Device.open>[0]> = {}): Promise<Device> {
  const token = await createToken({ folder: federation(), name, days: 1, random, nowMs: Date.now() });
  const folder = path(home, name);
  await join({ joinFile: joinFileText({ ...token, address: server.address }), folder, random });
  return await Device.open({ folder, data: clouds(40, seededRandom(name)), ...own });
}

const federation = () => path(home, "federation");

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 20));
}

test("three devices serve two runs at once; one waits until they charge", { timeout: 120_000 }, async () => {
  const { coordinator } = server;
  const events: DeviceEvent[] = [];
  let charging = false;
  const devices = await Promise.all(
    NAMES.map((name) => {
      // One of them has no stream, and asks.
      const own = { state: () => ({ charging }), serves: "day", stream: name !== "eve" };
      return opened(name, { events: (event) => void events.push(event), ...own });
    }),
  );
  const stop = new AbortController();
  const taking = devices.map((device) => device.participate({ once: false, signal: stop.signal }));
  const owner = await openOwner(federation());
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
  await until(() => coordinator.driver(one).header.round >= 1);
  expect(coordinator.driver(two).header.history).toEqual([]);
  expect(coordinator.dispatch.standings.reasons(two)).toEqual([["not charging", 3]]);
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

test("a run that was stopped and resumed goes on with devices that heard of its end", {
  timeout: 120_000,
}, async () => {
  const { coordinator } = server;
  const devices = await Promise.all(["fay", "gus", "ida"].map((name) => opened(name)));
  const { plan, base, initial } = settings("again", { rounds: 3 });
  for (const bytes of [base, initial]) await coordinator.parts.artifacts.putBytes(bytes);
  const first = devices.map((device) => device.participate());
  const run = await coordinator.startRun(signPlan(plan, await openOwner(federation())));
  await until(() => coordinator.driver(run).header.round >= 1);
  await coordinator.driver(run).stop();
  const ends = (taken: { runs: readonly { run: string; outcome: string }[] }[]) =>
    taken.map(({ runs }) => runs.map((end) => [end.run, end.outcome]));
  expect(ends(await Promise.all(first))).toEqual(devices.map(() => [[run, "stopped"]]));
  const { round, version } = coordinator.driver(run).header;
  const second = devices.map((device) => device.participate());
  await coordinator.resumeRun(run);
  expect(coordinator.driver(run).header).toMatchObject({ state: "running", round, version });
  // What they heard of before is no news; that it is over once more, is.
  expect(ends(await Promise.all(second))).toEqual(devices.map(() => [[run, "finished"]]));
  expect(coordinator.driver(run).header.history.map(({ survivors }) => survivors)).toEqual([3, 3, 3, 3]);
  await Promise.all(devices.map((device) => device.close()));
});
