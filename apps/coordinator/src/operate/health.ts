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
  readonly clock: Clock;
};

/**
 * Ready is what may be sent devices: not stopping, its store answers, its certificates are valid. A standby
 * is ready too: it refers devices to the leader and takes over from it.
 */
export async function readiness({ levels, askStore, clock }: HealthParts): Promise<Readiness> {
  const { stopping, role, certificates } = levels();
  const store = await answers(askStore, clock);
  const over = Object.entries(certificates).filter(([, seconds]) => seconds <= 0);
  const checks = [
    { name: "serving", ok: !stopping, says: stopping ? "told to stop" : "takes requests" },
    { name: "role", ok: role !== "none", says: role },
    { name: "store", ok: store === "", says: store || "answers" },
    {
      name: "certificates",
      ok: over.length === 0,
      says: over.length === 0 ? "valid" : `expired: ${over.map(([name]) => name).join(", ")}`,
    },
  ];
  return { ready: checks.every(({ ok }) => ok), role, checks };
}

/** Why the store does not answer; empty where it does. */
async function answers(ask: () => Promise<unknown>, clock: Clock): Promise<string> {
  const late = new AbortController();
  try {
    const waited = clock.sleep(ANSWER_MS, late.signal).then(() => {
      throw new Fault("deadline", "store", { expected: `an answer within ${ANSWER_MS} ms`, got: "none" });
    });
    // The wait that loses must not become an unhandled rejection.
    waited.catch(() => {});
    await Promise.race([ask(), waited]);
    return "";
  } catch (error) {
    return redact(asFault(error).message.slice(0, 200));
  } finally {
    late.abort();
  }
}
