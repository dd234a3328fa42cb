import { asFault } from "./fault.ts";

/** What a look at one thing found, and what to do about it. */
export type Finding = {
  readonly what: string;
  readonly state: "ok" | "warn" | "fail";
  readonly says: string;
  readonly todo?: string;
};

/** What a look at it found. */
export type Look = Omit<Finding, "what">;

/** Looks at one thing; what is thrown is what is wrong with it. */
export async function examine(what: string, look: () => Promise<Look> | Look): Promise<Finding> {
  try {
    return { what, ...(await look()) };
  } catch (error) {
    const { what: about, message, detail } = asFault(error);
    const { todo } = detail;
    const says =
      todo && message.endsWith(todo) ? message.slice(0, -todo.length).replace(/\.? $/, "") : message;
    return { what, state: "fail", says: says || about, ...(todo && { todo }) };
  }
}

const DAY_S = 86_400;
const SOON_DAYS = 30;

/** How a certificate that ends then is doing. */
export function expiry(notAfterS: number, nowS: number, todo: string): Look {
  const days = Math.floor((notAfterS - nowS) / DAY_S);
  const until = new Date(notAfterS * 1000).toISOString().slice(0, 10);
  if (notAfterS <= nowS) return { state: "fail", says: `expired on ${until}`, todo };
  if (days < SOON_DAYS) return { state: "warn", says: `expires on ${until}, in ${days} days`, todo };
  return { state: "ok", says: `valid until ${until}` };
}

/** Beyond the second, certificates may count as not yet or no longer valid. */
const SKEW_MS = { warn: 60_000, fail: 3_600_000 } as const;

/** How far our clock is from another's. */
export function skew(ownMs: number, othersMs: number, of: string): Look {
  const offMs = ownMs - othersMs;
  const seconds = Math.round(Math.abs(offMs) / 1000);
  const says = `${seconds} s ${offMs < 0 ? "behind" : "ahead of"} ${of}`;
  const todo = "Let the system keep its time (NTP), on both machines";
  if (Math.abs(offMs) > SKEW_MS.fail) return { state: "fail", says, todo };
  if (Math.abs(offMs) > SKEW_MS.warn) return { state: "warn", says, todo };
  return { state: "ok", says };
}
