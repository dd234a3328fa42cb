import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "@tutti/foundation/clock";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import type { Data } from "../src/examples.ts";
import { openAudit, read } from "../src/node/audit.ts";
import { memoryStore } from "../src/store.ts";
import { clouds } from "./mlp.ts";
import { adapterOf, deviceOn, scriptOf, until } from "./scripted.ts";

function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open: () => open(), opened };
}

/** An app's data function that comes back when it is told to. */
function slowData() {
  const told = gate();
  const state = { asked: false };
  const data: Data = async () => {
    state.asked = true;
    await told.opened;
    const rows = clouds(40, seededRandom("rows"));
    return { train: rows, heldOut: rows };
  };
  return { state, data, comesBack: told.open };
}

/** What is under way when nothing else happens ends in some turns. */
async function turns(count = 50): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Nobody's patience ends: only what is waited for, or the signal, ends a wait. */
const patient: Clock["sleep"] = (_ms, signal) =>
  new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

test("closing waits for the app's data function", async () => {
  const script = scriptOf();
  const { state, data, comesBack } = slowData();
  const { device } = await deviceOn(script, "ann", { data, sleep: patient });
  const taking = device.participate();
  await until(() => state.asked);
  let closed = false;
  const closing = device.close().then(() => {
    closed = true;
  });
  await taking;
  await turns();
  expect(closed).toBe(false);
  comesBack();
  await closing;
});

test("a data function that comes back after the device was closed writes nothing any more", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tutti-close-"));
  const file = join(folder, "audit.log");
  const about = { device: "ann", wallMs: () => 1_700_000_000_000 };
  const { state, data, comesBack } = slowData();
  const first = openAudit(file, about);
  const { device } = await deviceOn(scriptOf(), "ann", { data, audit: first });
  const taking = device.participate();
  await until(() => state.asked);
  await device.close();
  await taking;
  // The folder is another process's by now.
  const second = openAudit(file, about);
  second.note({ actor: "device", what: "second.opened", subject: "s" });
  comesBack();
  await turns();
  second.note({ actor: "device", what: "second.goes-on", subject: "s" });
  const whats: string[] = [];
  read(file, "ann", ({ what }) => void whats.push(what));
  expect(whats).toEqual(["task.accepted", "second.opened", "second.goes-on"]);
  await rm(folder, { recursive: true, force: true });
});

test("an app's engine that never loads anything is waited for no longer than its functions", async () => {
  let loading = false;
  const engine = {
    name: "stuck",
    load: () => {
      loading = true;
      return new Promise<never>(() => {});
    },
  };
  const { device } = await deviceOn(scriptOf(), "ann", { engine });
  const taking = device.participate();
  await until(() => loading);
  await device.close();
  await taking;
});

test("a release whose trial is under way does not come in once the device was closed", async () => {
  const script = scriptOf();
  const store = memoryStore();
  const trial = gate();
  let [released, trying] = [0, false];
  const runtime = {
    open: async () => ({
      run: async () => {
        trying = true;
        await trial.opened;
        return new Map();
      },
      release: async () => void released++,
    }),
  };
  const { device } = await deviceOn(script, "ann", { store, runtime });
  const taking = device.participate();
  await until(() => script.ready.length === 1);
  const adapter = adapterOf();
  script.publish(adapter, sha256Hex(adapter));
  script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
  await until(() => trying);
  await device.close();
  trial.open();
  await taking;
  await turns();
  expect((await store.pointer()).current).toBeNull();
  // The one on trial, and the base that answered until then.
  expect(released).toBe(2);
  await expect(device.rollback()).rejects.toMatchObject({ code: "cancelled" });
});
