import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromUtf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { planBytes } from "@tutti/plan/plan";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFolderStore } from "../../src/node/store.ts";
import { prepared } from "../mlp.ts";
import type { Script } from "../script.ts";
import { adapterOf, deviceOn, scriptOf, settings, until } from "../scripted.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-sweep-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const artifacts = async () => (await readdir(join(folder, "artifacts"))).sort();

/** One process of the device, until it is closed. */
async function started(script: Script) {
  const { device, events } = await deviceOn(script, "ann", { store: await openFolderStore(folder) });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal });
  await until(() => script.here.length === 1);
  const released = (value: number) => {
    const adapter = adapterOf(settings, value);
    script.publish(adapter, sha256Hex(adapter));
    script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
    return until(() => device.model().release?.version === script.parent.release.version);
  };
  const end = async () => {
    stop.abort();
    await taking;
    await device.close();
  };
  return { device, events, released, end };
}

test("each start leaves the base and the newest adapter, however often a release came between", async () => {
  const script = scriptOf();
  const left: string[][] = [];
  for (const value of [0.1, 0.2, 0.3, 0.4]) {
    const { released, end } = await started(script);
    await released(value);
    await end();
    left.push(await artifacts());
  }
  const base = settings.plan.base.sha256;
  for (const names of left) expect(names).toHaveLength(2);
  expect(left.at(-1)).toEqual([base, script.parent.release.adapter.sha256].sort());
});

test("what nothing names is swept; a download of a run that is on goes on where it was cut", async () => {
  const script = scriptOf();
  const { base } = settings.plan;
  const first = await started(script);
  await until(() => script.ready.length === 1);
  await first.end();
  // As a process leaves it that was killed while it downloaded the base, and another file before that.
  const store = await openFolderStore(folder);
  await store.discard(base.sha256);
  await store.append(base.sha256, settings.base.subarray(0, 300), 0);
  for (const name of [`${"ab".repeat(32)}.part`, "cd".repeat(32)])
    await writeFile(join(folder, "artifacts", name), "cut");
  script.fetches = [];
  script.again();
  const second = await started(script);
  expect(await artifacts()).not.toContain(`${"ab".repeat(32)}.part`);
  expect(await artifacts()).not.toContain("cd".repeat(32));
  await until(() => script.ready.length === 1);
  await second.end();
  expect(script.fetches).toEqual([{ sha256: base.sha256, offset: 300 }]);
});

test("a base that only runs of long ago had goes, but not the one that going back ends at", async () => {
  const [answering, old] = ["aa".repeat(32), "bb".repeat(32)];
  const store = await openFolderStore(folder);
  for (const sha256 of [answering, old]) {
    await store.append(sha256, settings.base, 0);
    await store.complete(sha256);
  }
  await store.setBase(answering);
  const left: string[][] = [];
  for (let number = 0; number < 9; number++) {
    const about = { sha256: number === 0 ? old : answering, bytes: settings.base.length };
    const { plan } = prepared({ rounds: 1, name: `run-${number}`, base: about });
    const { run, parent } = scriptOf({ ...settings, plan });
    await store.putDocument(`plan-${run}`, fromUtf8(planBytes(plan)));
    await store.putDocument(
      `newest-${run}`,
      JSON.stringify({ digest: "ee".repeat(32), release: parent.release }),
    );
    // A file's time is no finer than some milliseconds.
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { device } = await deviceOn(scriptOf(), "ann", { store: await openFolderStore(folder) });
    await device.close();
    left.push(await artifacts());
  }
  for (const names of left.slice(0, 8)) expect(names).toEqual([answering, old]);
  expect(left[8]).toEqual([answering]);
});

test("a start that cannot read what it keeps discards nothing, says so and goes on", async () => {
  const script = scriptOf();
  const { released, end } = await started(script);
  await released(0.1);
  await end();
  const before = await artifacts();
  await writeFile(join(folder, "documents", `plan-${script.run}.json`), "{");
  const { device, events, ...again } = await started(script);
  expect(events[0]?.kind).toBe("refused");
  expect(device.model().release?.version).toBe(1);
  await again.end();
  expect(await artifacts()).toEqual(before);
});
