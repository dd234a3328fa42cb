import { fromUtf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import { planBytes } from "@tutti/plan/plan";
import { signRelease } from "@tutti/release/manifest";
import { expect, test } from "vitest";
import { memoryStore } from "../src/store.ts";
import { NOW_S, releaseOf, runOf } from "./fixture.ts";
import { adapterOf, deviceOn, scriptOf, settings, until } from "./scripted.ts";

const MINUTE_S = 60;
const DAY_S = 86_400;

/** A device that knows two runs, and whose coordinator names their releases when it is told to. */
async function ofTwoRuns() {
  const script = scriptOf();
  const store = memoryStore();
  const plans: Record<string, Plan> = {};
  for (const name of ["first", "second"]) {
    plans[name] = { ...settings.plan, name };
    await store.putDocument(`plan-${runOf(plans[name])}`, fromUtf8(planBytes(plans[name])));
  }
  const { device, events } = await deviceOn(script, "ann", { store });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal });
  await until(() => script.ready.length === 1);
  const count = (kind: string) => events.filter((event) => event.kind === kind).length;
  /** Names a release; what was made of it is done when this resolves. */
  const tell = async (name: string, version: number, madeS: number) => {
    const run = runOf(plans[name]!);
    const adapter = adapterOf(settings, version / 8 + (name === "first" ? 0 : 1));
    script.artifacts.set(sha256Hex(adapter), adapter);
    const release = releaseOf(plans[name]!, run, {
      version,
      round: version - 1,
      adapter: { sha256: sha256Hex(adapter), bytes: adapter.length },
      parent: "ab".repeat(32),
      cohorts: [3],
      createdAt: new Date((NOW_S + madeS) * 1000).toISOString(),
    });
    script.say({
      case: "published",
      value: { run, manifest: signRelease(release, script.fed.coordinator) },
    } as never);
    const refused = count("refused");
    // A word that is refused for certain, behind it in the line.
    script.say({ case: "published", value: { run } } as never);
    await until(() => count("refused") > refused);
  };
  const answers = () => {
    const { release } = device.model();
    const name = Object.keys(plans).find((one) => runOf(plans[one]!) === release?.run);
    return release && `${name} ${release.version}`;
  };
  const connected = () =>
    events.filter((event) => event.kind === "state" && event.state === "connected").length;
  const end = async () => {
    stop.abort();
    await taking;
  };
  return { script, store, device, tell, answers, count, connected, end };
}

test("after a coordinator's restart a device keeps the newer run's release and its way back", async () => {
  const { script, store, device, tell, answers, count, connected, end } = await ofTwoRuns();
  await tell("first", 3, -20 * MINUTE_S);
  expect(answers()).toBe("first 3");
  await tell("second", 4, -10 * MINUTE_S);
  const before = await store.pointer();
  expect([answers(), count("released")]).toEqual(["second 4", 2]);
  script.cut("ann");
  await until(() => connected() === 2);
  // As it is greeted: the newest releases of runs, in their order.
  await tell("first", 3, -20 * MINUTE_S);
  await tell("second", 4, -10 * MINUTE_S);
  expect([answers(), count("released")]).toEqual(["second 4", 2]);
  expect(await store.pointer()).toEqual(before);
  await device.rollback();
  expect(answers()).toBe("first 3");
  await tell("second", 4, -10 * MINUTE_S);
  expect(answers()).toBe("first 3");
  await end();
});

test("a release that it slept through does not come in after another run's newer one", async () => {
  const { device, tell, answers, end } = await ofTwoRuns();
  await tell("second", 4, -10 * MINUTE_S);
  await tell("first", 3, -20 * MINUTE_S);
  expect(answers()).toBe("second 4");
  // Nor once the newer one was gone back from.
  await device.rollback();
  await tell("first", 3, -20 * MINUTE_S);
  expect(answers()).toBeNull();
  await tell("first", 5, -5 * MINUTE_S);
  expect(answers()).toBe("first 5");
  // Within a run its versions count, whatever the clock said.
  await tell("first", 7, -30 * MINUTE_S);
  expect(answers()).toBe("first 7");
  await end();
});

test("releases of one moment do not take turns", async () => {
  const { tell, count, end } = await ofTwoRuns();
  for (let time = 0; time < 3; time++) for (const name of ["first", "second"]) await tell(name, 1, 0);
  expect(count("released")).toBeLessThanOrEqual(2);
  await end();
});

test("a release from years ahead keeps other runs' out for a day, not for years", async () => {
  const { store, tell, answers, end } = await ofTwoRuns();
  await tell("first", 1, 3000 * DAY_S);
  expect(answers()).toBe("first 1");
  expect((await store.pointer()).latest?.madeMs).toBe((NOW_S + DAY_S) * 1000);
  await end();
});
