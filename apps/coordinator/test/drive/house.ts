import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeSafetensors } from "@tutti/adapter/formats/safetensors";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { Role } from "@tutti/identity/certificate";
import { issue } from "@tutti/identity/certificate";
import { newSeed, signingKey } from "@tutti/identity/keys";
import type { Plan } from "@tutti/plan/plan";
import { lateFactor } from "@tutti/plan/staleness";
import { activeLayout, scaleOf, termsOf } from "@tutti/round/spec";
import { layoutOf } from "@tutti/update/layout";
import { quantise } from "@tutti/update/quantise";
import type { Task } from "@tutti/wire/round";
import { authority, NOW_S, planOf, random } from "../../../../libs/round/test/cast.ts";

/** What tests of driver and handlers stand on: keys, a plan with its artifacts, updates, a virtual clock. */

export function signer(role: Role, name: string) {
  const key = signingKey(newSeed(random));
  const certificate = issue(authority, {
    role,
    name,
    publicKey: key.publicKey,
    notBeforeS: NOW_S - 1000,
    notAfterS: NOW_S + 100_000,
    serial: random.bytes(16),
  });
  return { key, certificate };
}

export const COORDINATOR = signer("coordinator", "coordinator");
export const OWNER = signer("owner", "owner");
export const BASE = new TextEncoder().encode("a base model, as far as a coordinator can tell");

const first = planOf();
/** The adapter that round 0 starts from: zeros. */
export const INITIAL = writeSafetensors(
  layoutOf(first.tensors).tensors.map(({ name, shape }) => {
    return { name, shape, data: new Float32Array(shape.reduce((size, side) => size * side, 1)) };
  }),
);

/** A plan over artifacts that are there. */
export function plan(change: Partial<Record<keyof Plan, unknown>> = {}): Plan {
  return planOf({
    base: { sha256: sha256Hex(BASE), bytes: BASE.length },
    initial: { sha256: sha256Hex(INITIAL), bytes: INITIAL.length },
    ...change,
  });
}

/** A device's quantised vector for a round, late for it or not: the same whenever it is asked again. */
export function wordsOf(given: Plan, task: Task, device: string, rows = 10, late = 0): Uint32Array {
  // Under noise nothing is added to zeros but the noise.
  if (given.privacy) return new Uint32Array(termsOf({ plan: given, task, attempt: 0 }).length);
  const chance = seededRandom(`${device}/${task.round}`);
  const { length } = activeLayout({ plan: given, task });
  const update = Float32Array.from({ length }, () => chance.uniform() - 0.5);
  const metrics = [rows, rows * chance.uniform(), rows / 2, rows, rows * chance.uniform()];
  const weight = rows * (given.staleness ? lateFactor(given.staleness, late) : 1);
  return quantise({ update, weight, metrics }, scaleOf(given), chance);
}

/** Time that passes only when a test says so. Each process has its own, from its own zero. */
export class TestClock implements Clock {
  #nowMs = 0;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return NOW_S * 1000;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { atMs: this.#nowMs + ms, wake: resolve };
      const give = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal?.reason);
      };
      if (signal?.aborted) return give();
      signal?.addEventListener("abort", give, { once: true });
      this.#sleepers.push(sleeper);
    });
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Time passes, and whoever sleeps oversleeps. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  /** To the moment that someone sleeps until; false when nobody does. */
  next(): boolean {
    const [soonest] = this.#sleepers.sort((a, b) => a.atMs - b.atMs);
    if (!soonest) return false;
    this.#sleepers = this.#sleepers.filter((other) => other !== soonest);
    this.#nowMs = Math.max(this.#nowMs, soonest.atMs);
    soonest.wake();
    return true;
  }
}

/** What happens to one storage operation: "hang" is a process that dies there. */
export type Trouble = {
  readonly at: number;
  readonly when: "before" | "after";
  readonly how: "hang" | "throw";
};

/** Counts storage operations, and spoils one or more of them. */
export class Weather {
  count = 0;
  busy = 0;
  readonly names: string[] = [];
  readonly died: Promise<void>;
  readonly #troubles: readonly Trouble[];
  #die: () => void = () => {};
  dead = false;
  /** Called as each operation begins. */
  onOperation: (name: string) => void = () => {};
  /** Called as each operation is done, before whoever asked for it hears so. */
  onDone: (name: string, at: number) => void = () => {};

  constructor(troubles: readonly Trouble[] = []) {
    this.#troubles = troubles;
    this.died = new Promise((resolve) => {
      this.#die = resolve;
    });
  }

  /** The object with every method watched. */
  over<T extends object>(subject: T, methods: readonly (keyof T & string)[]): T {
    const watched: Record<string, unknown> = {};
    for (const name of methods) {
      const method = subject[name] as (...args: unknown[]) => Promise<unknown>;
      watched[name] = (...args: unknown[]) => this.#around(name, () => method.apply(subject, args));
    }
    return { ...subject, ...watched };
  }

  async #around(name: string, act: () => Promise<unknown>): Promise<unknown> {
    const at = this.count++;
    this.names.push(name);
    this.onOperation(name);
    this.busy++;
    try {
      await this.#strike(at, "before");
      const result = await act();
      await this.#strike(at, "after");
      this.onDone(name, at);
      return result;
    } finally {
      this.busy--;
    }
  }

  #strike(at: number, when: Trouble["when"]): Promise<void> {
    const trouble = this.#troubles.find((one) => one.at === at && one.when === when);
    // What a dead process had begun goes no further.
    if (this.dead || trouble?.how === "hang") {
      this.dead = true;
      this.#die();
      return new Promise(() => {});
    }
    if (trouble) return Promise.reject(new Fault("storage", "a test", { got: "EIO" }));
    return Promise.resolve();
  }
}

export function temporary(): { readonly folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "tutti-drive-"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
