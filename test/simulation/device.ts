import { persist } from "@tutti/client-sdk/backoff";
import { type Device, openDevice } from "@tutti/client-sdk/device";
import type { DeviceEvent } from "@tutti/client-sdk/events";
import type { Link } from "@tutti/client-sdk/link";
import { defaultPolicy, type Policy } from "@tutti/client-sdk/policy";
import type { DeviceIdentity } from "@tutti/client-sdk/site";
import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import { EnrollRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { agree, OWNER, secretOf, verify } from "./cast.ts";
import { type DeviceDisk, openRounds, openSpending, openStore } from "./device-disk.ts";
import { Disk, type DiskWeather } from "./disk.ts";
import type { Life } from "./life.ts";
import { engine, rowsOf, runtimeOf } from "./recipe.ts";

/** What a device is in the mood for; the world changes it. */
export type Mood = {
  /** Virtual time of one step of training. */
  stepMs: number;
  /** Its owner needs it for something else: training fails. */
  declines: boolean;
};

export type Place = {
  readonly identity: DeviceIdentity;
  readonly deviceDisk: DeviceDisk;
  readonly weather: DiskWeather;
  readonly mood: Mood;
  readonly link: Link;
  readonly onEvent: (event: DeviceEvent) => void;
};

/** One life of a device's process: the SDK's own Device, which takes part until it is stopped. */
export async function bootDevice(life: Life, place: Place): Promise<Device> {
  const { identity, deviceDisk, weather, link, onEvent } = place;
  const disk = new Disk(life, weather);
  const jitter = seededRandom(`${life.name}/${life.timeline.nowMs}`);
  const patience = { clock: life.clock, jitter };
  const { signal } = new AbortController();
  const { certificate } = identity;
  if (!deviceDisk.documents.has("enrolled")) {
    await persist(
      (until) => link.enroll(create(EnrollRequestSchema, { certificate }), until),
      patience,
      signal,
    );
    deviceDisk.documents.set("enrolled", "yes");
  }
  return openDevice({
    identity,
    policy: POLICY,
    data: (plan) => rowsOf(identity.name, plan),
    folder: "",
    link,
    store: openStore(deviceDisk, disk),
    engine: async () => engineOf(life, place.mood),
    runtime: runtimeOf(),
    clock: life.clock,
    jitter,
    secret: secretOf(life.name, life.timeline.nowMs),
    ledger: openRounds(deviceDisk, disk),
    spending: openSpending(deviceDisk, disk),
    verify,
    agree,
    events: onEvent,
  });
}

/** What a join file makes, but that plans without masks and with noise are fine. */
export const POLICY: Policy = {
  ...defaultPolicy([{ name: OWNER.name, publicKey: hex(OWNER.key.publicKey) }]),
  requireSecureAggregation: false,
};

function engineOf({ clock }: Life, mood: Mood): Engine {
  return {
    name: engine.name,
    load: async (graph) => {
      const program = await engine.load(graph);
      return {
        dispose: program.dispose,
        step: async (feeds) => {
          await clock.sleep(mood.stepMs);
          if (mood.declines) throw new Fault("refused", "training", { got: "a device that is in use" });
          return program.step(feeds);
        },
      };
    },
  };
}
