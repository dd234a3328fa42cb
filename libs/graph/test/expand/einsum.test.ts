import fc from "fast-check";
import { expect, test } from "vitest";
import { builderOn } from "../../src/builder.ts";
import { expanded } from "../../src/expand/expand.ts";
import { checkGradient } from "../gradient/check.ts";
import { agrees } from "../tfjs/harness.ts";
import { drawn } from "./draw.ts";

const SIZES: Record<string, number> = { b: 2, h: 3, i: 3, j: 4, k: 2, d: 4, n: 3, m: 2, q: 3, A: 2, C: 3 };
const shapeOf = (term: string) => [...term].map((letter) => SIZES[letter]!);

/** Equations as exporters write them, and some that nobody does. */
const EQUATIONS = [
  ...["ij,jk->ik", "ij,kj->ik", "ji,jk->ki", "bij,bjk->bik", "bhqd,bhnd->bhqn", "bqhd,bnhd->bhqn"],
  ...[
    "bhqn,bnhd->bqhd",
    "bi,bi->b",
    "i,i->",
    "i,j->ij",
    "ij->ji",
    "ij->",
    "ij->j",
    "ii->i",
    "ii->",
    "bii->bi",
  ],
  ...["iij->ij", "ij,jk,kb->ib", "i,ij,j->", "bij,j->bi", "ij,bk->", "bd,nd->bn", "bhd,hdn->bn", "iji,j->i"],
  ...["ij,jk", "ba", "ab,bc", "Ab,bC->AC", "ij,ij->ij", "bi,bj->bij", "bij,kj->bki", "b,bi,bj->bij"],
];

for (const equation of EQUATIONS)
  test(equation, async () => {
    const shapes = equation
      .split("->")[0]!
      .split(",")
      .map((term) => shapeOf(term.replaceAll("a", "i").replaceAll("c", "j")));
    await agrees({
      op: "Einsum",
      inputs: shapes.map((shape, i) => drawn(shape, i + 1)),
      attributes: { equation },
    });
    await checkGradient({
      op: "Einsum",
      inputs: shapes.map((shape) => ({ shape })),
      attributes: { equation },
    });
  });

test.each([
  [
    "...ij,...jk->...ik",
    [
      [2, 3, 4],
      [2, 4, 2],
    ],
  ],
  [
    "...ij,...jk->...ik",
    [
      [5, 2, 3, 4],
      [1, 2, 4, 2],
    ],
  ],
  [
    "...ij,jk->...ik",
    [
      [2, 3, 4],
      [4, 2],
    ],
  ],
  [
    "i...,i...->...",
    [
      [3, 2, 4],
      [3, 2, 4],
    ],
  ],
  ["...ii->...i", [[2, 3, 3]]],
  [
    "...ij,...jk",
    [
      [2, 3, 4],
      [2, 4, 2],
    ],
  ],
  [
    "...,...->...",
    [
      [2, 1],
      [2, 3],
    ],
  ],
  ["...ij->...ji", [[2, 2, 3, 4]]],
  [
    "ij,ij->j",
    [
      [1, 3],
      [2, 3],
    ],
  ],
  [
    "ij,ij->",
    [
      [2, 1],
      [1, 3],
    ],
  ],
  [
    "ij,ij,jk->k",
    [
      [2, 3],
      [2, 1],
      [1, 4],
    ],
  ],
  [
    "bij,bjk->bik",
    [
      [1, 2, 3],
      [2, 1, 4],
    ],
  ],
] as const)("%s of %o", async (equation, shapes) => {
  await agrees({
    op: "Einsum",
    inputs: shapes.map((shape, i) => drawn(shape, i + 1)),
    attributes: { equation },
  });
  await checkGradient({ op: "Einsum", inputs: shapes.map((shape) => ({ shape })), attributes: { equation } });
});

// onnxruntime refuses these two kinds; numpy, to which the standard refers, does not.
test.each([
  [
    "...ij,...jk->...ik",
    [
      [5, 1, 3, 4],
      [2, 4, 2],
    ],
  ],
  ["...,...->...", [[2, 1], [3]]],
  [
    "Ab,bC",
    [
      [2, 3],
      [3, 4],
    ],
  ],
  [
    "...b,bC",
    [
      [2, 3],
      [3, 4],
    ],
  ],
] as const)("%s of %o, by the twin", async (equation, shapes) => {
  await checkGradient({ op: "Einsum", inputs: shapes.map((shape) => ({ shape })), attributes: { equation } });
});

test("any equation over a few letters", async () => {
  const term = fc.string({ unit: fc.constantFrom(..."bijk"), minLength: 1, maxLength: 4 });
  const arbitrary = fc.tuple(fc.array(term, { minLength: 1, maxLength: 3 }), fc.infiniteStream(fc.nat(2)));
  await fc.assert(
    fc.asyncProperty(arbitrary, async ([terms, coins]) => {
      const letters = [...new Set(terms.join(""))].filter(() => coins.next().value > 0);
      const equation = `${terms.join(",")}->${letters.reverse().join("")}`;
      const inputs = terms.map((letters, i) => drawn(shapeOf(letters), i + 1));
      await agrees({ op: "Einsum", inputs, attributes: { equation } }, 1e-3);
    }),
    { numRuns: 80, seed: 1 },
  );
});

/** How many transposes an equation takes. */
function transposes(equation: string): number {
  const build = builderOn();
  const inputs = equation
    .split("->")[0]!
    .split(",")
    .map((term, i) => build.input({ name: `x${i}`, dtype: "float32", shape: shapeOf(term) }));
  build.output(build.emit("Einsum", inputs, { equation }), "y");
  const graph = expanded(build.finish(), { wanted: () => true });
  expect(graph.nodes.some(({ op }) => op === "Einsum")).toBe(false);
  return graph.nodes.filter(({ op }) => op === "Transpose").length;
}

test.each([
  ["ij,jk->ik", 0],
  ["bij,bjk->bik", 0],
  ["ij,kj->ik", 1],
  ["jk,ij->ik", 0],
  ["bhqd,bhnd->bhqn", 1],
  ["bij,jk->bik", 0],
] as const)("%s takes %i transposes", (equation, count) => {
  expect(transposes(equation)).toBe(count);
});
