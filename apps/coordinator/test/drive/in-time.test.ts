import { afterEach, expect, test } from "vitest";
import type { Artifacts } from "../../src/artifacts.ts";
import { inTime, OPERATION_MS, STORING_MS } from "../../src/drive/in-time.ts";
import { Desk } from "../handlers/desk.ts";
import { INITIAL, plan, TestClock, temporary } from "./house.ts";

/** docs/reliability.md, promise 2: a round always ends, though the store of artifacts never answers. */

const ABC = ["a", "b", "c"];
const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function deskInUnmasking() {
  const place = temporary();
  open.push(() => place.remove());
  const desk = await Desk.open(place.folder);
  open.push(() => desk.close());
  const run = await desk.startRun(plan());
  const artifacts = desk.coordinator.parts.artifacts as { -readonly [K in keyof Artifacts]: Artifacts[K] };
  const { putBytes, read } = artifacts;
  // In no time: this clock does not wait for a disk.
  artifacts.read = async () => INITIAL;
  const late: (() => void)[] = [];
  artifacts.putBytes = (bytes) =>
    new Promise((resolve, reject) => late.push(() => void putBytes(bytes).then(resolve, reject)));
  await desk.gather(...ABC);
  await answerAll(desk, () => desk.round?.phase === "unmasking");
  return { desk, run, late, answersAgain: () => Object.assign(artifacts, { putBytes, read }) };
}

async function answerAll(desk: Desk, done: () => boolean): Promise<void> {
  for (let at = 0; at < 12 && !done(); at++) {
    await desk.answer(...ABC);
    await desk.settle();
  }
  expect(done()).toBe(true);
}

test("artifacts never written end the attempt by name; what is written late counts for nothing", async () => {
  const { desk, run, late, answersAgain } = await deskInUnmasking();
  const attempt = () => desk.driver!.header.attempt;
  expect(attempt()).toBe(0);
  const fromMs = desk.clock.nowMs();
  while (attempt() === 0 && desk.clock.next()) await desk.settle();
  // Five tries, and four waits between them.
  expect(desk.clock.nowMs() - fromMs).toBe(5 * OPERATION_MS + 250 + 500 + 1_000 + 2_000);
  expect(attempt()).toBe(1);
  expect(desk.driver!.header.reason).toMatch(/writing an artifact: expected .* got none/);
  expect(late).toHaveLength(5);

  answersAgain();
  for (const write of late) write();
  await desk.settle();
  expect([attempt(), desk.driver!.header.version, (await desk.store.releases(run)).length]).toEqual([
    1, 0, 1,
  ]);

  const { version } = desk.driver!.header;
  // As others would: who opened a sum of a round opens no second one.
  desk.players = new Map();
  while (desk.round?.phase === "gathering" && desk.clock.next()) await desk.settle();
  await answerAll(desk, () => desk.driver!.header.version > version);
  const { header } = desk.driver!;
  expect([header.version, header.history.at(-1)?.survivors]).toEqual([1, 3]);
  expect(await desk.store.releases(run)).toHaveLength(2);
});

test("operations that are each in time have one limit together, and no timer stays", async () => {
  const clock = new TestClock();
  const bytes = new Uint8Array(1);
  const slow = inTime(
    {
      read: async () => bytes,
      putBytes: async () => {
        clock.pass(OPERATION_MS - 1);
        return "";
      },
    },
    clock,
  );
  let writes = 0;
  const writing = async () => {
    for (; writes < 100; writes++) await slow.putBytes(bytes);
  };
  await expect(writing()).rejects.toMatchObject({ code: "deadline" });
  expect(writes).toBe(Math.ceil(STORING_MS / (OPERATION_MS - 1)));
  await expect(slow.read("")).rejects.toMatchObject({ code: "deadline" });
  expect(clock.next()).toBe(false);
});

test("the last operation has what is left of all, and is not tried again", async () => {
  const clock = new TestClock();
  const never = inTime({ read: () => new Promise(() => {}), putBytes: async () => "" }, clock);
  const codes: string[] = [];
  while (codes.at(-1) !== "deadline" && codes.length < 10) {
    const reading = never.read("").catch(({ code }) => codes.push(code));
    clock.next();
    await reading;
  }
  expect(codes).toEqual(["unavailable", "unavailable", "unavailable", "unavailable", "deadline"]);
  expect(clock.nowMs()).toBe(STORING_MS);
});
