import { utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { type Plan, parsePlan, planBytes } from "@tutti/plan/plan";
import { expect, test } from "vitest";
import { signEnvelope } from "../src/dsse.ts";
import { envelopeFromJson, envelopeJson } from "../src/envelope-json.ts";
import { openPlan, PLAN, signPlan } from "../src/plan.ts";
import { COORDINATOR, OWNER, signer, TRUST } from "./federation.ts";

const plan: Plan = parsePlan(
  utf8(
    JSON.stringify({
      version: 1,
      name: "penguins",
      base: { sha256: "ab".repeat(32), bytes: 1000 },
      tensors: [{ name: "w.A", shape: [4, 8] }],
      initial: { sha256: "cd".repeat(32), bytes: 500 },
      adapter: { rank: 4, alpha: 8, targets: "all-linear" },
      loss: "softmax-cross-entropy",
      train: { optimiser: { name: "sgd", learningRate: 0.1 }, steps: 20, batchSize: 16 },
      rounds: 5,
      cohort: { min: 3, max: 10 },
    }),
  ),
);

test("a signed plan and back, through its file; the run is named by the payload's hash", () => {
  const envelope = envelopeFromJson(envelopeJson(signPlan(plan, OWNER)));
  expect(openPlan(envelope, TRUST)).toEqual({ plan, run: sha256Hex(planBytes(plan)) });
});

test("a coordinator, a device, or an owner of another federation cannot give a plan", () => {
  for (const by of [COORDINATOR, signer("device", 12), signer("owner", 10, signer("owner", 2).key)]) {
    expect(() => openPlan(signPlan(plan, by), TRUST)).toThrow(expect.objectContaining({ code: "refused" }));
  }
});

test("an owner's signature under something that is no plan is still no plan", () => {
  expect(() => openPlan(signEnvelope(PLAN, utf8("{}"), OWNER), TRUST)).toThrow("plan, field");
  expect(() => openPlan(signEnvelope("application/json", planBytes(plan), OWNER), TRUST)).toThrow(
    "envelope type",
  );
});
