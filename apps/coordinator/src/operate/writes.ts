import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { Store } from "../store/store.ts";

/** What a coordinator at work writes by; each is a transaction. */
const WRITES: ReadonlySet<string> = new Set<keyof Store>(["commit", "addRun", "addDevice", "note"]);

/** How long a write that failed speaks for the store; then a small one is tried, should no other come. */
const SPEAKS_MS = 10_000;

/** Whether the store takes what it is given, by the last write: a full disk goes on answering reads. */
export class Writes {
  readonly #clock: Clock;
  #failed: { readonly why: string; readonly atMs: number } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A store whose writes are watched; it does what it did before. */
  over(inner: Store): Store {
    return new Proxy(inner, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== "function" || typeof name !== "string" || !WRITES.has(name)) return member;
        return async (...args: unknown[]) => await this.#seen(() => member.apply(target, args));
      },
    });
  }

  /** Why the last write failed; empty where it did not. */
  async trouble(write: () => Promise<unknown>): Promise<string> {
    if (this.#failed === null) return "";
    if (this.#clock.nowMs() - this.#failed.atMs >= SPEAKS_MS) await this.#seen(write).catch(() => {});
    return this.#failed?.why ?? "";
  }

  async #seen<T>(write: () => Promise<T>): Promise<T> {
    try {
      const result = await write();
      this.#failed = null;
      return result;
    } catch (cause) {
      // Of other faults the writer is to blame, or an engine that has a check of its own.
      const fault = cause instanceof Fault ? cause : asFault(cause, "storage");
      if (fault.code === "storage") this.#failed = { why: fault.message, atMs: this.#clock.nowMs() };
      throw cause;
    }
  }
}
