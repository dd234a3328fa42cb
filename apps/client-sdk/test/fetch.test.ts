import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { float32, type Tensors } from "@tutti/graph/ir";
import { create } from "@tutti/wire/message";
import { ChunkSchema } from "@tutti/wire/round";
import { describe, expect, test } from "vitest";
import { delayMs, FIRST_DELAY_MS, LONGEST_DELAY_MS, persist } from "../src/backoff.ts";
import { obtain, openFetcher } from "../src/fetch.ts";
import { modelHolder, type Running } from "../src/model.ts";
import { reporter } from "../src/reporter.ts";
import { memoryStore } from "../src/store.ts";

const clock = { nowMs: () => 0, wallMs: () => 0, sleep: async () => {}, turn: async () => {} };
const patience = { clock, jitter: seededRandom(1) };
const { signal } = new AbortController();
const whole = Uint8Array.from({ length: 1000 }, (_, at) => at % 256);
const wanted = { sha256: sha256Hex(whole), bytes: whole.length };

/** A coordinator that sends what `from` gives for an offset. */
function linkOf(from: (offset: number, attempt: number) => Iterable<Uint8Array>) {
  let attempt = 0;
  return {
    async *fetch({ offset }: { offset: number }) {
      for (const data of from(offset, attempt++)) yield create(ChunkSchema, { data });
    },
  };
}

describe("an artifact by hash", () => {
  test("lost again and again, it is whole in the end, each byte sent once", async () => {
    const store = memoryStore();
    const offsets: number[] = [];
    const link = linkOf(function* (offset) {
      offsets.push(offset);
      yield whole.slice(offset, offset + 300);
      if (offset < 600) throw new Fault("unavailable", "line");
    });
    expect(await obtain(wanted, { link, store, patience, signal })).toEqual(whole);
    expect(offsets).toEqual([0, 300, 600, 900]);
    expect(await store.artifact(wanted.sha256)).toEqual(whole);
  });

  test("other bytes, or more of them, are refused and not kept", async () => {
    const store = memoryStore();
    const other = linkOf(() => [new Uint8Array(1000)]);
    await expect(obtain(wanted, { link: other, store, patience, signal })).rejects.toThrow(/of that hash/);
    expect(await store.partial(wanted.sha256)).toHaveLength(0);
    const endless = linkOf(function* () {
      for (;;) yield new Uint8Array(600);
    });
    await expect(obtain(wanted, { link: endless, store, patience, signal })).rejects.toThrow(
      /expected 1000 bytes/,
    );
    const honest = linkOf((offset) => [whole.slice(offset)]);
    expect(await obtain(wanted, { link: honest, store, patience, signal })).toEqual(whole);
  });

  test("a file that changed on disk is fetched again", async () => {
    const store = memoryStore();
    await store.append(wanted.sha256, whole.slice(1), 0);
    await store.complete(wanted.sha256);
    const link = linkOf((offset) => [whole.slice(offset)]);
    expect(await obtain(wanted, { link, store, patience, signal })).toEqual(whole);
  });

  test("asked for several times at once, it is downloaded once; a failure is forgotten", async () => {
    const store = memoryStore();
    const offsets: number[] = [];
    let away = true;
    const link = linkOf(function* (offset) {
      offsets.push(offset);
      if (away) throw new Fault("not-found", "artifact");
      for (let at = offset; at < 1000; at += 100) yield whole.slice(at, at + 100);
    });
    const fetched = openFetcher({ link, store, patience, signal });
    const failed = await Promise.allSettled([fetched(wanted), fetched(wanted)]);
    expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    away = false;
    const all = [fetched(wanted), fetched({ ...wanted, bytes: 999 }), fetched(wanted)];
    const [one, short, two] = await Promise.allSettled(all);
    expect([one, two].map((each) => each?.status === "fulfilled" && each.value)).toEqual([whole, whole]);
    expect(short).toMatchObject({ status: "rejected", reason: { code: "refused" } });
    expect(offsets).toEqual([0, 0]);
    expect(await store.artifact(wanted.sha256)).toEqual(whole);
  });

  test("two writers of one file, as two processes would be, corrupt nothing", async () => {
    const store = memoryStore();
    const link = linkOf(function* (offset) {
      for (let at = offset; at < 1000; at += 100) yield whole.slice(at, at + 100);
    });
    const both = [0, 1].map(() => obtain(wanted, { link, store, patience, signal }).catch(() => null));
    expect((await Promise.all(both)).some((bytes) => bytes !== null)).toBe(true);
    expect(await obtain(wanted, { link, store, patience, signal })).toEqual(whole);
  });

  test("what is not there is not asked for again", async () => {
    let asked = 0;
    const link = linkOf(() => {
      asked++;
      throw new Fault("not-found", "artifact");
    });
    await expect(obtain(wanted, { link, store: memoryStore(), patience, signal })).rejects.toThrow(
      "artifact",
    );
    expect(asked).toBe(1);
  });
});

describe("waiting", () => {
  test("delays double from 0.2 s to 10 s, jittered over their upper half", () => {
    const jitter = seededRandom(2);
    for (let attempt = 0; attempt < 40; attempt++) {
      const whole = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt);
      const delay = delayMs(attempt, jitter);
      expect(delay).toBeGreaterThanOrEqual(whole / 2);
      expect(delay).toBeLessThan(whole);
    }
  });

  test("an answer that says when is waited for, then up to half as long again; 0.2 s at least", async () => {
    const jitter = seededRandom(3);
    for (const [retryAfterMs, least] of [
      [30_000, 30_000],
      [0, FIRST_DELAY_MS],
    ] as const) {
      const because = new Fault("unavailable", "full", { retryAfterMs });
      const delays = Array.from({ length: 100 }, (_, attempt) => delayMs(attempt, jitter, because));
      expect(Math.min(...delays)).toBeGreaterThanOrEqual(least);
      expect(Math.max(...delays)).toBeLessThan(least * 1.5);
      expect(new Set(delays).size).toBeGreaterThan(90);
    }
    const slept: number[] = [];
    const clock = { ...patience.clock, sleep: async (ms: number) => void slept.push(ms) };
    let calls = 0;
    const full = async () => {
      if (++calls === 1) throw new Fault("unavailable", "full", { retryAfterMs: 5_000 });
    };
    await persist(full, { clock, jitter }, signal);
    expect(slept[0]).toBeGreaterThanOrEqual(5_000);
  });

  test("is tried again as soon as there is reason to, also one that came during the call", async () => {
    const never = () => new Promise<never>(() => {});
    const stuck = { ...patience, clock: { ...patience.clock, sleep: never } };
    for (const comesLate of [true, false]) {
      let come = () => {};
      const comes = new Promise<void>((resolve) => {
        come = resolve;
      });
      let calls = 0;
      const back = async () => {
        if (++calls === 2) return calls;
        if (comesLate) setImmediate(come);
        else come();
        throw new Fault("unavailable", "line");
      };
      expect(await persist(back, { ...stuck, again: () => comes }, signal)).toBe(2);
    }
    // One that was told when to come again comes no sooner.
    const slept: number[] = [];
    const clock = { ...patience.clock, sleep: async (ms: number) => void slept.push(ms) };
    let calls = 0;
    const full = async () => {
      if (++calls === 1) throw new Fault("unavailable", "full", { retryAfterMs: 5_000 });
    };
    await persist(full, { ...patience, clock, again: async () => {} }, signal);
    expect(slept[0]).toBeGreaterThanOrEqual(5_000);
  });

  test("what may pass is tried again, what may not is not, and a signal ends it", async () => {
    let calls = 0;
    const flaky = async () => {
      if (++calls < 4) throw new Fault(calls === 2 ? "deadline" : "unavailable", "line");
      return calls;
    };
    expect(await persist(flaky, patience, signal)).toBe(4);
    const no = async () => Promise.reject(new Fault("refused", "no"));
    await expect(persist(no, patience, signal)).rejects.toThrow("no");
    let bugs = 0;
    const bug = async () => {
      bugs++;
      throw new TypeError("x is undefined");
    };
    await expect(persist(bug, patience, signal)).rejects.toBeInstanceOf(TypeError);
    const theirs = async () => {
      bugs++;
      throw new Fault("internal", "internal error");
    };
    await expect(persist(theirs, patience, signal)).rejects.toMatchObject({ code: "internal" });
    expect(bugs).toBe(2);
    const stop = new AbortController();
    const never = async () => {
      stop.abort(new Fault("cancelled", "enough"));
      throw new Fault("unavailable", "line");
    };
    await expect(persist(never, patience, stop.signal)).rejects.toThrow("enough");
  });
});

test("a model that gives way ends its calls in flight first", async () => {
  const log: string[] = [];
  const named = (name: string) => {
    let finish = () => {};
    const running: Running = {
      run: () =>
        new Promise<Tensors>(
          (resolve) => (finish = () => resolve(new Map([[name, float32([], new Float32Array(1))]]))),
        ),
      release: async () => void log.push(`${name} released`),
    };
    return { running, finish: () => finish() };
  };
  const holder = modelHolder();
  await expect(holder.model.run(new Map())).rejects.toMatchObject({ code: "not-found" });
  const [old, next] = [named("old"), named("next")];
  await holder.swap(old.running, null);
  const call = holder.model.run(new Map());
  await holder.swap(next.running, { version: 1, run: "r", digest: "d" });
  expect(holder.model.release?.version).toBe(1);
  expect(log).toEqual([]);
  old.finish();
  expect([...(await call).keys()]).toEqual(["old"]);
  expect(log).toEqual(["old released"]);
  await holder.close();
  expect(log).toEqual(["old released", "next released"]);
});

test("reports: at most one a second, then what is so when it is over", async () => {
  const sent: string[] = [];
  const events: number[] = [];
  const sleeps: { untilMs: number; wake: () => void }[] = [];
  let nowMs = 0;
  const report = reporter({
    link: { report: async ({ activity, progress }) => Promise.reject(sent.push(`${activity} ${progress}`)) },
    clock: {
      ...clock,
      nowMs: () => nowMs,
      sleep: (ms) => new Promise((wake) => sleeps.push({ untilMs: nowMs + ms, wake })),
    },
    emit: (event) => event.kind === "activity" && events.push(event.progress),
    jitter: seededRandom("reports"),
    signal,
  });
  for (let step = 0; step < 250; step++, nowMs += 10) {
    if (sleeps[0] && sleeps[0].untilMs <= nowMs) sleeps.shift()?.wake();
    await Promise.resolve();
    report({ run: "r", round: 0, activity: "training", progress: step });
  }
  report({ run: "r", round: 0, activity: "waiting", progress: 1 });
  sleeps.shift()?.wake();
  await Promise.resolve();
  expect(sent).toEqual(["training 0", "training 99", "training 199", "waiting 1"]);
  expect(events).toHaveLength(251);
});
