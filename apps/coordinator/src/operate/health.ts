import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { Levels } from "../observe/levels.ts";
import { redact } from "../observe/redact.ts";

/** Whether this coordinator can serve devices now, and if not, why not. */
export type Readiness = {
  readonly ready: boolean;
  readonly role: string;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly says: string }[];
};

const ANSWER_MS = 2_000;

export type HealthParts = {
  readonly levels: () => Levels;
  /** Any small question; that it is answered is enough. */
  readonly askStore: () => Promise<unknown>;
  /** Why the last write failed; empty where it did not. Asked of a leader alone. */
  readonly writes?: () => Promise<string>;
  readonly clock: Clock;
};

/**
 * Ready is what may be sent devices: not stopping, its store answers and takes what is written, its
 * certificates are valid. A standby
 * is ready too: it refers devices to the leader and takes over from it.
 */
export async function readiness({ levels, askStore, writes, clock }: HealthParts): Promise<Readiness> {
  const { stopping, role, certificates } = levels();
  const store = await answers(askStore, clock);
  const write = role === "leader" && store === "" && writes ? await answers(writes, clock, true) : "";
  const over = Object.entries(certificates).filter(([, seconds]) => seconds <= 0);
  const checks = [
    { name: "serving", ok: !stopping, says: stopping ? "told to stop" : "takes requests" },
    { name: "role", ok: role !== "none", says: role },
    { name: "store", ok: store === "", says: store || "answers" },
    { name: "writes", ok: write === "", says: write || "taken, as far as any came" },
    {
      name: "certificates",
      ok: over.length === 0,
      says: over.length === 0 ? "valid" : `expired: ${over.map(([name]) => name).join(", ")}`,
    },
  ];
  return { ready: checks.every(({ ok }) => ok), role, checks };
}

/** Why the store does not answer; empty where it does, or, where it tells itself, what it says. */
async function answers(ask: () => Promise<unknown>, clock: Clock, tells = false): Promise<string> {
  const late = new AbortController();
  try {
    const waited = clock.sleep(ANSWER_MS, late.signal).then(() => {
      throw new Fault("deadline", "store", { expected: `an answer within ${ANSWER_MS} ms`, got: "none" });
    });
    // The wait that loses must not become an unhandled rejection.
    waited.catch(() => {});
    const answer = await Promise.race([ask(), waited]);
    return tells ? redact(`${answer}`.slice(0, 200)) : "";
  } catch (error) {
    return redact(asFault(error).message.slice(0, 200));
  } finally {
    late.abort();
  }
}
