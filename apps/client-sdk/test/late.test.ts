import { describe, expect, test } from "vitest";
import type { Script } from "./script.ts";
import { deviceOn, scriptOf, until } from "./scripted.ts";

describe("a round that goes on without this device", () => {
  const excuse = (script: Script) =>
    script.say({
      case: "excused",
      value: { run: script.run, round: script.task.round, attempt: script.attempt } as never,
    });

  test("ends its training, declines nothing, and trains when it is invited again", async () => {
    const script = scriptOf();
    const stop = new AbortController();
    let go = () => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { device, events, kinds } = await deviceOn(script, "ann", { slow: () => gate });
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.reports.some(({ activity }) => activity === "training"));
    excuse(script);
    await until(() => kinds().includes("excused"));
    go();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(kinds()).not.toContain("trained");
    expect(script.ready).toEqual([]);
    script.again();
    script.tellAll();
    await until(() => script.ready.length === 1);
    stop.abort();
    await taking;
    expect(events.filter(({ kind }) => kind === "refused")).toEqual([]);
    expect(script.declined.size).toBe(0);
  });

  test("keeps what is trained, for another attempt; a word of another round changes nothing", async () => {
    const script = scriptOf();
    script.quorum = 4;
    const stop = new AbortController();
    const { device, kinds } = await deviceOn(script, "ann");
    const taking = device.participate({ signal: stop.signal });
    await until(() => script.ready.length === 1);
    script.say({ case: "excused", value: { run: script.run, round: 7, attempt: 0 } as never });
    excuse(script);
    await until(() => kinds().includes("excused"));
    script.again();
    script.tellAll();
    await until(() => script.ready.length === 1);
    stop.abort();
    await taking;
    expect(kinds().filter((kind) => kind === "trained")).toHaveLength(1);
    expect(kinds().filter((kind) => kind === "excused")).toHaveLength(1);
  });
});
