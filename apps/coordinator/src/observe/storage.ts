import type { Clock } from "@tutti/foundation/clock";
import type { Change, Store } from "../store/store.ts";
import type { Observe } from "./seen.ts";

/** A store, or a shelf of artifacts, whose every operation is told of; it does what it did before. */
export function observed<T extends object>(
  what: string,
  inner: T,
  by: { clock: Clock; observe: Observe },
): T {
  return new Proxy(inner, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function" || typeof name !== "string") return member;
      return (...args: unknown[]) => timed(member.apply(target, args), `${what}.${name}`, args, by);
    },
  });
}

function timed(
  result: unknown,
  operation: string,
  args: readonly unknown[],
  { clock, observe }: { clock: Clock; observe: Observe },
): unknown {
  if (!(result instanceof Promise)) return result;
  const [beganMs, since] = [clock.wallMs(), clock.nowMs()];
  const about = { kind: "stored", operation, beganMs, ...aboutCommit(operation, args) } as const;
  const tell = (ok: boolean) => observe({ ...about, ms: clock.nowMs() - since, ok });
  return result.then(
    (value) => {
      tell(true);
      return value;
    },
    (error) => {
      tell(false);
      throw error;
    },
  );
}

function aboutCommit(
  operation: string,
  args: readonly unknown[],
): { run: string | undefined; entries: number } {
  if (operation !== "store.commit") return { run: undefined, entries: 0 };
  const [run, change] = args as Parameters<Store["commit"]>;
  return { run, entries: (change as Change).append?.length ?? 0 };
}
