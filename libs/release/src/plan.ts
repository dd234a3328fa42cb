import { sha256Hex } from "@tutti/foundation/hash";
import { type Plan, parsePlan, planBytes } from "@tutti/plan/plan";
import type { SignedEnvelope } from "@tutti/wire/release";
import { openEnvelope, type Signer, signEnvelope, type Trust } from "./dsse.ts";

export const PLAN = "application/vnd.tutti.plan+json";

/** A plan and its run's id: SHA-256 of the signed payload, in hex. */
export type OpenedPlan = { readonly plan: Plan; readonly run: string };

/** The plan's canonical JSON, signed by the run's owner. */
export function signPlan(plan: Plan, owner: Signer): SignedEnvelope {
  return signEnvelope(PLAN, planBytes(plan), owner);
}

/** The plan in an envelope that an owner of this federation signed; Faults for signature and for schema. */
export function openPlan(envelope: SignedEnvelope, trust: Trust): OpenedPlan {
  const { payload } = openEnvelope(envelope, { ...trust, payloadType: PLAN, role: "owner" });
  return { plan: parsePlan(payload), run: sha256Hex(payload) };
}
