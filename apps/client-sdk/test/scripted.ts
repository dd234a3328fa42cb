import { writeSafetensors } from "@tutti/adapter/formats/safetensors";
import type { Clock } from "@tutti/foundation/clock";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { Engine } from "@tutti/graph/ir";
import { memoryLedger } from "@tutti/secagg/device/member";
import type { Examples } from "@tutti/train/batches";
import { afterEach } from "vitest";
import type { Audit } from "../src/audit.ts";
import { type Device, openDevice } from "../src/device.ts";
import type { DeviceEvent } from "../src/events.ts";
import type { Data } from "../src/examples.ts";
import type { Link } from "../src/link.ts";
import type { Runtime } from "../src/model.ts";
import { nodeEngine } from "../src/node/engine.ts";
import { onnxruntimeNode } from "../src/node/runtime.ts";
import type { Policy } from "../src/policy.ts";
import { memorySpending } from "../src/private.ts";
import { memoryStore, type Store } from "../src/store.ts";
import { federation, NOW_S, policyOf } from "./fixture.ts";
import { clouds, prepared } from "./mlp.ts";
import { Script } from "./script.ts";

/** Real devices on a scripted coordinator; what they open is closed after each test. */

export const engine: Engine = await nodeEngine("tfjs");

const fed = federation();
export const NAMES = ["ann", "bob", "eve"];
const parties = new Map(NAMES.map((name) => [name, fed.device(name)]));
const open: Device[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((device) => device.close()));
});

type Options = {
  policy?: Partial<Policy>;
  store?: Store;
  runtime?: Runtime;
  rows?: number;
  /** Awaited before a batch of training rows is given: this device is as slow as that. */
  slow?: () => Promise<void>;
  /** Instead of rows of its own. */
  data?: Data;
  audit?: Audit;
  sleep?: Clock["sleep"];
  engine?: Engine;
  /** Instead of what the script answers. */
  link?: Partial<Link>;
};

export async function deviceOn(script: Script, name: string, options: Options = {}) {
  const { key, certificate } = parties.get(name)!;
  const events: DeviceEvent[] = [];
  const device = await openDevice({
    identity: { federation: "test", name, key, certificate, authority: fed.authority },
    policy: policyOf(fed, options.policy),
    data: options.data ?? slowly(clouds(options.rows ?? 40, seededRandom(`rows of ${name}`)), options.slow),
    folder: "",
    link: { ...script.linkFor(name), ...options.link },
    store: options.store ?? memoryStore(),
    engine: async () => options.engine ?? engine,
    runtime: options.runtime ?? onnxruntimeNode(),
    // Waits pass at once, so that a test of reconnecting takes no time.
    clock: {
      nowMs: () => 0,
      wallMs: () => NOW_S * 1000,
      sleep: options.sleep ?? (() => new Promise((resolve) => setImmediate(resolve))),
      turn: () => new Promise((resolve) => setImmediate(resolve)),
    },
    jitter: seededRandom(name),
    secret: fed.random,
    ledger: memoryLedger(),
    spending: memorySpending(),
    ...(options.audit && { audit: options.audit }),
    events: (event) => events.push(event),
  });
  open.push(device);
  return { device, events, kinds: () => events.map(({ kind }) => kind) };
}

function slowly(rows: Examples, slow: () => Promise<void> = async () => {}): Examples {
  return {
    ...rows,
    take: async (which) => {
      await slow();
      return rows.take(which);
    },
  };
}

export const settings = prepared({ rounds: 1 });
export const scriptOf = ({ plan, base, initial } = settings) =>
  new Script(fed, plan, [base, initial], sha256Hex);

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** An adapter file for a plan with `value` in every place. */
export function adapterOf({ plan } = settings, value = 0.25): Uint8Array {
  const size = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);
  return writeSafetensors(
    plan.tensors.map(({ name, shape }) => ({ name, shape, data: new Float32Array(size(shape)).fill(value) })),
  );
}
