import { hex } from "@tutti/foundation/bytes";
import type { Fault } from "@tutti/foundation/fault";
import { verifyCertificate } from "@tutti/identity/certificate";
import { describe, expect, test } from "vitest";
import { defaultPolicy, type Policy, parsePolicy, permit, permitRows, policyText } from "../src/policy.ts";
import { federation, NOW_S, type Party, planOf, policyOf } from "./fixture.ts";

const fed = federation();
const identity = (party: Party) =>
  verifyCertificate(party.certificate, { authority: fed.authority, role: "owner", nowS: NOW_S });

function faultOf(action: () => unknown): Fault {
  try {
    action();
  } catch (error) {
    return error as Fault;
  }
  throw new Error("expected a Fault");
}

describe("policy.json", () => {
  const good = policyOf(fed, { dataFolder: "rows", maxUpdateNorm: 2 });

  test("what is written is what is read", () => {
    expect(parsePolicy(policyText(good))).toEqual(good);
  });

  test("anything but a whole, known policy is refused", () => {
    const text = (change: object) => JSON.stringify({ ...good, ...change });
    const { minExamples: _, ...lacking } = good;
    const bad: [string, RegExp][] = [
      ["", /expected JSON/],
      ["null", /expected an object, got null/],
      ["[]", /expected an object, got a list/],
      [text({ version: 2 }), /field version: expected 1, got 2/],
      [text({ requireSecureAggregaton: false }), /known fields, got requireSecureAggregaton/],
      [JSON.stringify(lacking), /field minExamples: .*got nothing/],
      [
        JSON.stringify({ ...lacking, minExample: 5 }),
        /^policy.json: .*got minExample\. Did you mean minExamples\?/,
      ],
      [text({ floor: { devices: 3, treshold: 2, survivors: 2 } }), /got treshold. Did you mean threshold/],
      [text({ quorum: 0.5 }), /got quorum. Known here: version, owners/],
      [text({ minExamples: 0 }), /minExamples: expected an integer in 1/],
      [text({ requireSecureAggregation: "no" }), /expected true or false, got "no"/],
      [text({ floor: { devices: 3, threshold: 2 } }), /floor, field survivors/],
      [text({ floor: { devices: 3, threshold: 2, survivors: 1 } }), /survivors: expected an integer in 2/],
      [text({ floor: { ...good.floor, extra: 1 } }), /floor.*known fields, got extra/],
      [text({ methods: [1] }), /methods: expected a list of strings/],
      [text({ owners: [{ name: "x", publicKey: "ab" }] }), /owner x: expected 32 bytes/],
      [text({ owners: [{ name: "x" }] }), /owners\[0\], field publicKey/],
      [text({ maxUpdateNorm: -1 }), /maxUpdateNorm: expected a number above 0/],
    ];
    for (const [file, message] of bad) {
      const fault = faultOf(() => parsePolicy(file));
      expect(fault.message).toMatch(message);
      expect(fault.code).toBe("refused");
    }
  });
});

describe("permit", () => {
  const plan = planOf();
  const allowed = (change: Partial<Policy>, planned = plan) =>
    permit(policyOf(fed, change), planned, identity(fed.owner));

  test("an approved owner's plan within the rules", () => {
    expect(() => allowed({})).not.toThrow();
  });

  test("each rule refuses by itself", () => {
    const other = fed.certified("owner", "researcher");
    const plain = planOf({ secureAggregation: { enabled: false } });
    const budget = { epsilon: 4, delta: 1e-5, modes: ["distributed", "local"] };
    const noised = (mode: string) => planOf({ privacy: { mode, noiseMultiplier: 1 } });
    const refusals: [() => void, RegExp][] = [
      [() => allowed({ owners: [] }), /run owner: expected nobody/],
      // The same name with another key: a name alone approves nobody.
      [() => permit(policyOf(fed), plan, identity(other)), /run owner/],
      [() => allowed({ methods: ["ffa"] }), /method: expected ffa, got fedit/],
      [() => allowed({}, plain), /secure aggregation: expected on, got off/],
      [
        () => allowed({ floor: { devices: 4, threshold: 2, survivors: 3 } }),
        /smallest cohort.*at least 4.*got 3/,
      ],
      [() => allowed({ maxUpdateNorm: 1 }), /update norm: expected at most 1, got 10/],
      [
        () => allowed({ privacy: budget }),
        /privacy: expected noise in every sum, distributed or local, got none/,
      ],
      [() => allowed({ privacy: budget }, noised("central")), /distributed or local, got central/],
      [() => allowed({ maxSteps: 4 }), /training steps: expected at most 4, got 5/],
      [() => permitRows(policyOf(fed, { minExamples: 10 }), 9), /training rows: expected at least 10, got 9/],
    ];
    for (const [action, message] of refusals) {
      const fault = faultOf(action);
      expect(fault.message).toMatch(message);
      expect(fault.code).toBe("refused");
    }
    expect(() => allowed({ requireSecureAggregation: false }, plain)).not.toThrow();
    expect(() => allowed({ maxUpdateNorm: 10, maxSteps: 5 })).not.toThrow();
    expect(() => allowed({ privacy: budget }, noised("distributed"))).not.toThrow();
  });

  test("the default asks for three devices and secure aggregation", () => {
    const { floor, requireSecureAggregation } = defaultPolicy([
      { name: "o", publicKey: hex(new Uint8Array(32)) },
    ]);
    expect({ floor, requireSecureAggregation }).toEqual({
      floor: { devices: 3, threshold: 2, survivors: 3 },
      requireSecureAggregation: true,
    });
  });
});
