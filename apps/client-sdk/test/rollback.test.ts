import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { expect, test } from "vitest";
import { memoryStore, type Store } from "../src/store.ts";
import { adapterOf, deviceOn, scriptOf, settings, until } from "./scripted.ts";

/** Its first step back reports an error though it was done, as a disk may. */
function oncePowerless(store: Store): Store {
  let steps = 0;
  return {
    ...store,
    rollback: async (options) => {
      await store.rollback(options);
      if (++steps === 1) throw new Fault("storage", "current.json", { got: "EIO" });
    },
  };
}

test("going back is asked for again after an error of the disk: it goes back once", async () => {
  const script = scriptOf();
  const store = memoryStore();
  const { device, kinds } = await deviceOn(script, "ann", { store: oncePowerless(store) });
  const stop = new AbortController();
  const taking = device.participate({ signal: stop.signal });
  await until(() => kinds().includes("trained"));
  for (const [at, value] of [0.25, 0.5].entries()) {
    const adapter = adapterOf(settings, value);
    script.publish(adapter, sha256Hex(adapter));
    script.say({ case: "published", value: { run: script.run, manifest: script.parent.envelope } as never });
    await until(() => device.model().release?.version === at + 1);
  }
  const newest = device.model().release!.digest;

  await expect(device.rollback()).rejects.toThrow("EIO");
  expect(device.model().release?.version).toBe(2);
  await device.rollback();
  expect(device.model().release?.version).toBe(1);
  expect((await store.pointer()).rejected).toEqual([newest]);
  stop.abort();
  await taking;
  await device.close();
});
