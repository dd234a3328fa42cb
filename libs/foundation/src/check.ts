import { Fault, type FaultCode } from "./fault.ts";

/** For what must not happen: a broken invariant is our bug, never the caller's. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${invariant}`);
}

/** Makes a switch exhaustive: a new case does not compile until someone handles it. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}

/** A door check: exactly `length` bytes, else a Fault that says what was expected and what came. */
export function checkBytes(
  what: string,
  value: unknown,
  length: number,
  code: FaultCode = "bad-message",
): Uint8Array {
  if (!(value instanceof Uint8Array))
    throw new Fault(code, what, { expected: `${length} bytes`, got: kind(value) });
  if (value.length !== length)
    throw new Fault(code, what, { expected: `${length} bytes`, got: `${value.length}` });
  return value;
}

/** A door check: an integer in [low, high]. */
export function checkInteger(what: string, value: unknown, range: readonly [number, number]): number {
  const [low, high] = range;
  if (typeof value === "number" && Number.isInteger(value) && value >= low && value <= high) return value;
  throw new Fault("bad-input", what, { expected: `an integer in ${low}..${high}`, got: kind(value) });
}

/** Throws a Fault unless `condition`; for rules that another party can break. */
export function demand(condition: unknown, fault: () => Fault): asserts condition {
  if (!condition) throw fault();
}

function kind(value: unknown): string {
  return typeof value === "number" ? String(value) : value === null ? "null" : typeof value;
}
