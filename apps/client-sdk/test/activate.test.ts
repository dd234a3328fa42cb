import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { describe, expect, test } from "vitest";
import type { Link } from "../src/link.ts";
import type { Runtime } from "../src/model.ts";
import { memoryStore, type Store } from "../src/store.ts";
import { adapterOf, deviceOn, scriptOf, until } from "./scripted.ts";

const EIO = () => new Fault("storage", "writing the pointer", { got: "EIO" });

/** A store whose next writes of this kind are done, and reported as failed. */
function unsure(writes: "activate" | "setBase"): { store: Store; failNext: () => void } {
  const store = memoryStore();
  const write = store[writes] as (of: never) => Promise<void>;
  let fails = false;
  const failing = async (of: never) => {
    await write(of);
    if (!fails) return;
    fails = false;
    throw EIO();
  };
  const failNext = () => {
    fails = true;
  };
  return { store: { ...store, [writes]: failing }, failNext };
}

/** Counts the models that are open. */
function counting(): { runtime: Runtime; open: () => number } {
  let count = 0;
  const runtime: Runtime = {
    open: async () => {
      count++;
      return {
        run: async () => new Map(),
        release: async () => {
          count--;
        },
      };
    },
  };
  return { runtime, open: () => count };
}

async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function taking(store: Store, through: (link: Link) => Link = (link) => link) {
  const script = scriptOf();
  const link = through(script.linkFor("ann"));
  script.linkFor = () => link;
  const { runtime, open } = counting();
  const { device, events, kinds } = await deviceOn(script, "ann", { store, runtime });
  const stop = new AbortController();
  const done = device.participate({ signal: stop.signal });
  await until(() => script.ready.length === 1);
  const told = () =>
    script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
  const publish = (value: number) => {
    const adapter = adapterOf(undefined, value);
    script.publish(adapter, sha256Hex(adapter));
    told();
  };
  const count = (kind: string) => kinds().filter((one) => one === kind).length;
  const end = async () => {
    stop.abort();
    await done;
  };
  return { script, device, events, count, told, publish, open, end };
}

describe("a release whose writing failed, though it is on disk", () => {
  test("answers as soon as the coordinator names it again", async () => {
    const { store, failNext } = unsure("activate");
    const { script, device, count, told, publish, open, end } = await taking(store);
    failNext();
    publish(0.25);
    await until(() => count("refused") === 1);
    expect((await store.pointer()).current).toBe(script.digest());
    expect(device.model().release).toBeNull();
    told();
    await until(() => count("released") === 1);
    expect(device.model().release?.digest).toBe(script.digest());
    expect(open()).toBe(1);
    await end();
  });

  test("answers before a newer one takes its place on disk", async () => {
    const { store, failNext } = unsure("activate");
    const answered: (number | undefined)[] = [];
    const { script, device, count, publish, open, end } = await taking({
      ...store,
      activate: async (release) => {
        answered.push(device.model().release?.version);
        await store.activate(release);
      },
    });
    failNext();
    publish(0.25);
    await until(() => count("refused") === 1);
    const first = script.digest();
    publish(0.5);
    await until(() => count("released") === 1);
    expect(answered).toEqual([undefined, 1]);
    expect(await store.pointer()).toMatchObject({ current: script.digest(), previous: first });
    expect(open()).toBe(1);
    await end();
  });
});

test("a round's parent that is served late does not take the device back behind a newer one", async () => {
  const store = memoryStore();
  const late: (() => void)[] = [];
  const { script, device, count, publish, end } = await taking(store, (link) => ({
    ...link,
    ready: async (request) => {
      // The coordinator hears of it; its answer comes back only once another release is in.
      const ack = await link.ready(request);
      if (request.round === 1) await new Promise<void>((resolve) => late.push(resolve));
      return ack;
    },
  }));
  publish(0.25);
  await until(() => count("released") === 1);
  script.tellAll();
  await until(() => late.length === 1);
  publish(0.5);
  await until(() => count("released") === 2);
  late[0]!();
  await turns();
  // A word that is refused for certain: what came before it was done.
  script.say({ case: "published", value: { run: script.run } } as never);
  await until(() => count("refused") === 1);
  expect(device.model().release?.version).toBe(2);
  expect(count("released")).toBe(2);
  await end();
});

test("the base model is tried again where its place could not be written", async () => {
  const { store, failNext } = unsure("setBase");
  failNext();
  const { script, device, count, end } = await taking(store);
  await until(() => count("refused") === 1);
  await expect(device.model().run(new Map())).rejects.toThrow("none yet");
  script.again();
  script.tellAll();
  await until(() => script.ready.length === 1);
  await device.model().run(new Map());
  expect((await store.pointer()).base).toBe(script.plan.base.sha256);
  await end();
});
