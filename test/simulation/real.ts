import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";

/** What a simulated program must never ask of the machine: it would differ from run to run. */
const AMBIENT = ["setTimeout", "setInterval", "setImmediate"] as const;

/**
 * Runs `body` where nothing real leaks in: ambient timers and dates throw, by the name of what was asked for.
 * `bytes` answers where a package draws its own: shamir-secret-sharing takes Node's randomBytes, kysely names
 * its queries by Math.random.
 */
export async function without<T>(bytes: (length: number) => Uint8Array, body: () => Promise<T>): Promise<T> {
  const undo = [
    ...AMBIENT.map((name) => replace(globalThis, name, leak(name))),
    replace(Date, "now", leak("Date.now")),
    replace(performance, "now", leak("performance.now")),
    replace(Math, "random", () => bytes(1)[0]! / 256),
    replace(globalThis.crypto, "getRandomValues", blinding),
    replace(crypto, "randomBytes", (length: number) => Buffer.from(bytes(length).slice().buffer)),
  ];
  syncBuiltinESMExports();
  try {
    return await body();
  } finally {
    for (const back of undo.reverse()) back();
    syncBuiltinESMExports();
  }
}

/** noble's curves blind their multiplications with it, which no result shows: the same bytes every time. */
function blinding<T extends Uint8Array>(into: T): T {
  for (let at = 0; at < into.length; at++) into[at] = (at * 151 + 7) & 0xff;
  return into;
}

function leak(name: string): () => never {
  return () => {
    throw new Error(
      `${name} was asked for inside a simulation: take it as an argument (Clock, SecretRandom)`,
    );
  };
}

function replace<T extends object>(of: T, name: string, by: unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(of, name);
  Object.defineProperty(of, name, { value: by, configurable: true, writable: true });
  return () => {
    if (before) Object.defineProperty(of, name, before);
    else Reflect.deleteProperty(of, name);
  };
}
