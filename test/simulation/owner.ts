import { persist } from "@tutti/client-sdk/backoff";
import { fromHex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { type Plan, planBytes } from "@tutti/plan/plan";
import { signPlan } from "@tutti/release/plan";
import {
  type Admin,
  type PutPart,
  PutPartSchema,
  RevokeRequestSchema,
  RunRequestSchema,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { Stub } from "@tutti/wire/rpc";
import { OWNER } from "./cast.ts";
import type { Life } from "./life.ts";
import { BASE, INITIAL } from "./recipe.ts";

export type Owner = {
  /** Uploads what a plan names, starts it, and follows it to its end. */
  conduct(plan: Plan): Promise<{ run: string; state: string; reason: string }>;
  revoke(device: string): Promise<void>;
  stop(run: string): Promise<void>;
};

const LOOK_MS = 1_500;

/** A run's owner, at a machine that never fails; whatever may pass is asked again. */
export function ownerOn(life: Life, admin: Stub<typeof Admin>): Owner {
  const { clock } = life;
  const patience = { clock, jitter: seededRandom(life.name) };
  const { signal } = new AbortController();
  const ask = <T>(call: (signal: AbortSignal) => Promise<T>) => persist(call, patience, signal);
  return {
    async conduct(plan) {
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
        if (state !== "running") return { run, state, reason };
        await clock.sleep(LOOK_MS);
      }
    },
    async revoke(device) {
      await ask((until) => admin.revoke(create(RevokeRequestSchema, { device }), until)).catch((error) => {
        // Nobody enrolled it yet.
        if (!(error instanceof Fault && error.code === "not-found")) throw error;
      });
    },
    stop: async (run) => void (await ask((until) => admin.stopRun(create(RunRequestSchema, { run }), until))),
  };
}

/** The answer to the first request was lost, and the run is over by now: its id is its plan's. */
function startedBefore(plan: Plan, error: unknown): string {
  if (error instanceof Fault && error.code === "conflict") return sha256Hex(planBytes(plan));
  throw error;
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
