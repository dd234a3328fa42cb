import { delayMs, persist } from "@tutti/client-sdk/backoff";
import { fromHex } from "@tutti/foundation/bytes";
import { Fault, type FaultCode } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { type Plan, planBytes } from "@tutti/plan/plan";
import { signPlan } from "@tutti/release/plan";
import { NO_REVOCATIONS, readRevocations, signRevocations, withRevoked } from "@tutti/release/revocations";
import {
  type Admin,
  type PutPart,
  PutPartSchema,
  RevokeRequestSchema,
  RunRequestSchema,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Stub } from "@tutti/wire/rpc";
import { DevicesRequestSchema, type Register, RevocationsRequestSchema } from "@tutti/wire/standing";
import { OWNER } from "./cast.ts";
import type { Life } from "./life.ts";
import { BASE, INITIAL } from "./recipe.ts";

export type Owner = {
  /** Uploads what a plan names, starts it, and follows it to its end. */
  conduct(plan: Plan, again: Again): Promise<{ run: string; state: string; reason: string }>;
  /** Until it is done; nothing, where nobody of this name is enrolled. */
  revoke(device: string): Promise<void>;
  /** Whom it is revoking, and since when in virtual time. */
  readonly revoking: ReadonlyMap<string, number>;
  stop(run: string): Promise<void>;
};

/** How a run goes on that is over: asked once for each end, with its state. */
export type Again = {
  readonly resumes: (state: string) => boolean;
  readonly resumed: () => void;
};

const LOOK_MS = 1_500;
const COMMAND_MS = 8_000;

/** What an owner who gives a command again may be done with then: another list may be there by now. */
const AGAIN: ReadonlySet<FaultCode> = new Set<FaultCode>(["unavailable", "deadline", "conflict", "refused"]);

type Services = { readonly admin: Stub<typeof Admin>; readonly register: Stub<typeof Register> };

/** A run's owner, at a machine that never fails; whatever may pass is asked again. */
export function ownerOn(life: Life, { admin, register }: Services): Owner {
  const { clock } = life;
  const revoking = new Map<string, number>();
  const patience = { clock, jitter: seededRandom(life.name) };
  const { signal } = new AbortController();
  const ask = <T>(call: (signal: AbortSignal) => Promise<T>) => persist(call, patience, signal);
  return {
    async conduct(plan, { resumes, resumed }) {
      for (const bytes of [BASE, INITIAL]) await ask((until) => admin.put(partsOf(bytes), until));
      const request = create(StartRunRequestSchema, { plan: signPlan(plan, OWNER) });
      const run = await ask((until) => admin.startRun(request, until)).then(
        (reply) => reply.run,
        (error) => startedBefore(plan, error),
      );
      for (;;) {
        const { state, reason } = await ask((until) =>
          admin.status(create(RunRequestSchema, { run }), until),
        );
        if (state === "finished" || (state !== "running" && !resumes(state))) return { run, state, reason };
        await clock.sleep(LOOK_MS);
        if (state === "running") continue;
        await ask((until) => admin.resumeRun(create(RunRequestSchema, { run }), until)).catch(beforeItEnded);
        resumed();
      }
    },
    revoking,
    async revoke(device) {
      revoking.set(device, life.timeline.nowMs);
      const command = (until: AbortSignal) => revoke({ admin, register }, { device, clock, until });
      for (let attempt = 0; ; attempt++) {
        const code = await inTime(clock, command).then(() => null, codeOf);
        // Nobody enrolled it yet.
        if (code === null || code === "not-found") break;
        await clock.sleep(delayMs(attempt, patience.jitter));
      }
      revoking.delete(device);
    },
    stop: async (run) => void (await ask((until) => admin.stopRun(create(RunRequestSchema, { run }), until))),
  };
}

/** A command whose stream of answers hangs is given up, as by Ctrl-C. */
async function inTime(clock: Life["clock"], command: (until: AbortSignal) => Promise<void>): Promise<void> {
  const [over, done] = [new AbortController(), new AbortController()];
  clock.sleep(COMMAND_MS, done.signal).then(
    () => over.abort(),
    () => {},
  );
  try {
    await command(over.signal);
  } catch (cause) {
    throw over.signal.aborted ? new Fault("deadline", "a command", { cause }) : cause;
  } finally {
    done.abort();
  }
}

/** `tutti revoke`, once: the newest list and one more, signed now (apps/cli/src/commands/revoke.ts). */
async function revoke(
  { admin, register }: Services,
  { device, clock, until }: { device: string; clock: Life["clock"]; until: AbortSignal },
): Promise<void> {
  const envelope = await register.revocations(create(RevocationsRequestSchema), until);
  for await (const { name, serial } of register.devices(create(DevicesRequestSchema), until)) {
    if (name !== device) continue;
    const list = withRevoked(listIn(envelope), { name, serial, nowS: Math.floor(clock.wallMs() / 1000) });
    const revocations = signRevocations(list, OWNER);
    await admin.revoke(create(RevokeRequestSchema, { device, revocations }), until);
    return;
  }
  throw new Fault("not-found", `device ${device}`);
}

function listIn({ payload }: SignedEnvelope) {
  return payload.length > 0 ? readRevocations(payload) : NO_REVOCATIONS;
}

/** @throws what no command that is given again mends. */
function codeOf(error: unknown): FaultCode {
  if (error instanceof Fault && (AGAIN.has(error.code) || error.code === "not-found")) return error.code;
  throw error;
}

/** The answer to the first request was lost, and the run is over by now: its id is its plan's. */
function startedBefore(plan: Plan, error: unknown): string {
  if (error instanceof Fault && error.code === "conflict") return sha256Hex(planBytes(plan));
  throw error;
}

/** The same of a run that was resumed, and has finished since. */
function beforeItEnded(error: unknown): void {
  if (!(error instanceof Fault && /is finished/.test(error.message))) throw error;
}

function partsOf(bytes: Uint8Array): AsyncIterable<PutPart> {
  const sha256 = fromHex(sha256Hex(bytes));
  const parts = [
    { case: "header" as const, value: { sha256, totalBytes: bytes.length } },
    { case: "chunk" as const, value: bytes },
  ];
  return {
    async *[Symbol.asyncIterator]() {
      for (const part of parts) yield create(PutPartSchema, { part } as never);
    },
  };
}
