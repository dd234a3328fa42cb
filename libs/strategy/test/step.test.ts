import { layoutOf } from "@tutti/update/layout";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adam } from "../src/adam.ts";
import { chain } from "../src/chain.ts";
import { momentum } from "../src/momentum.ts";
import { scale } from "../src/scale.ts";
import { loadState, saveState, stored } from "../src/state.ts";
import { type Stepped, serverStep } from "../src/step.ts";
import type { Rule, State } from "../src/types.ts";

const A = { name: "w.A", shape: [2] };
const B = { name: "w.B", shape: [1, 3] };
const C = { name: "bias", shape: [1] };
const layout = layoutOf([A, B, C]);

const rules: Rule[] = [
  scale(0.5),
  momentum(0.5),
  chain(momentum(0.9), adam({ beta1: 0.9, beta2: 0.99, epsilon: 1e-3 }), scale(0.1)),
];

type Round = { active: (typeof A | typeof B | typeof C)[]; mean: Float32Array };
const rounds: fc.Arbitrary<Round[]> = fc.array(
  fc.shuffledSubarray([A, B, C], { minLength: 1 }).chain((active) => {
    const { length } = layoutOf(active);
    return fc
      .array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: length, maxLength: length })
      .map((values) => ({ active, mean: Float32Array.from(values) }));
  }),
  { minLength: 1, maxLength: 8 },
);

function play(rule: Rule, list: readonly Round[]): Stepped {
  let at: Stepped = { parameters: Float32Array.of(1, 2, 3, 4, 5, 6), held: rule.begin(layout.length) };
  for (const { active, mean } of list) {
    at = serverStep({ layout, active: layoutOf(active), mean, rule, ...at });
  }
  return at;
}

describe("serverStep", () => {
  test("RoLoRA by hand: momentum 0.5, A moves in rounds 0 and 2, B in round 1", () => {
    const rule = momentum(0.5);
    const a = (x: number, y: number): Round => ({ active: [A], mean: Float32Array.of(x, y) });
    const b: Round = { active: [B], mean: Float32Array.of(1, 1, 1) };
    const { parameters, held } = play(rule, [a(1, 2), b, a(1, 2)]);
    // A: 1 + 1 + 1.5 and 2 + 2 + 3; its velocity did not fade while B moved.
    expect([...parameters]).toEqual([3.5, 7, 4, 5, 6, 6]);
    expect([...held[0]!]).toEqual([1.5, 3, 1, 1, 1, 0]);
  });

  test("slow twin: each tensor as if its own rounds were all there ever were, bit for bit", () => {
    for (const rule of rules) {
      fc.assert(
        fc.property(rounds, (list) => {
          const { parameters, held } = play(rule, list);
          for (const placed of layout.tensors) {
            const end = placed.offset + placed.shape.reduce((product, size) => product * size, 1);
            let own = Float32Array.of(1, 2, 3, 4, 5, 6).slice(placed.offset, end);
            let state: State = rule.begin(own.length);
            for (const { active, mean } of list) {
              const part = layoutOf(active).tensors.find(({ name }) => name === placed.name);
              if (!part) continue;
              const [step, next] = rule.apply(mean.slice(part.offset, part.offset + own.length), state);
              own = own.map((value, i) => value + step[i]!);
              state = next;
            }
            expect(parameters.slice(placed.offset, end)).toEqual(own);
            expect(held.map((vector) => vector.slice(placed.offset, end))).toEqual(state);
          }
        }),
        { numRuns: 50 },
      );
    }
  });

  test("writes to no argument", () => {
    const rule = momentum(0.5);
    const parameters = new Float32Array(6);
    const held = rule.begin(6);
    serverStep({ layout, active: layout, parameters, mean: new Float32Array(6).fill(1), rule, held });
    expect(parameters).toEqual(new Float32Array(6));
    expect(held).toEqual([new Float32Array(6)]);
  });

  test("overflow to infinity is refused by tensor; layouts that do not fit are our own bug", () => {
    const parameters = new Float32Array(6).fill(3e38);
    const options = { layout, parameters, rule: scale(1), held: [] };
    expect(() =>
      serverStep({ ...options, active: layoutOf([B]), mean: new Float32Array(3).fill(3e38) }),
    ).toThrow("server step, tensor w.B: expected finite parameters");
    for (const stranger of [
      { name: "w.A", shape: [1, 2] },
      { name: "other", shape: [2] },
    ]) {
      const active = layoutOf([stranger]);
      expect(() => serverStep({ ...options, active, mean: new Float32Array(2) })).toThrow("invariant broken");
    }
  });
});

describe("saveState and loadState", () => {
  test("a coordinator killed between any two rounds ends up where one that was not does, bit for bit", () => {
    for (const rule of rules) {
      fc.assert(
        fc.property(rounds, (list) => {
          let at: Stepped = {
            parameters: Float32Array.of(1, 2, 3, 4, 5, 6),
            held: rule.begin(layout.length),
          };
          for (const { active, mean } of list) {
            const held = stored(rule).load(stored(rule).save(at.held));
            at = serverStep({
              layout,
              active: layoutOf(active),
              parameters: at.parameters,
              mean,
              rule,
              held,
            });
          }
          expect(at).toEqual(play(rule, list));
        }),
        { numRuns: 30 },
      );
    }
  });

  test("little-endian floats behind a header; loading does not need aligned bytes", () => {
    const bytes = saveState([Float32Array.of(1, -2)]);
    expect([...bytes.slice(-8)]).toEqual([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    expect(loadState(shifted.subarray(3), 1)).toEqual([Float32Array.of(1, -2)]);
  });

  test("bytes of another rule, another header, or cut short are refused", () => {
    const bytes = saveState(momentum(0.5).begin(4));
    const load = (data: Uint8Array, rule: Rule) => () => stored(rule).load(data);
    expect(load(bytes, adam({ beta1: 0, beta2: 0, epsilon: 1 }))).toThrow("server state: expected 2 vectors");
    expect(load(bytes, scale(1))).toThrow("server state");
    for (let end = 0; end < bytes.length; end++)
      expect(load(bytes.subarray(0, end), momentum(0))).toThrow("state");
    const header = bytes.length - 16;
    for (let at = 0; at < header; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 1;
      expect(load(changed, momentum(0.5))).toThrow(expect.objectContaining({ code: "storage" }));
    }
  });

  test("a state of another layout is not stepped with", () => {
    const held = momentum(0.5).begin(5);
    const options = { layout, active: layout, parameters: new Float32Array(6), mean: new Float32Array(6) };
    expect(() => serverStep({ ...options, rule: momentum(0.5), held })).toThrow("invariant broken");
  });
});
