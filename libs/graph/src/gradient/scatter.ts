import type { Ops } from "../ops.ts";
import { type Adjoint, type GradientRule, once } from "./rule.ts";

/** A scatter and the gather over the same positions: what ScatterND and ScatterElements differ in. */
type Places = {
  /** What stands at the positions that the indices name. */
  gather(from: string): string;
  /** `into` with `values` put there, or combined with what is there. */
  scatter(into: string, values: string, reduction: "none" | "add" | "mul"): string;
};

function rule(placesOf: (site: Adjoint, ops: Ops) => Places): GradientRule {
  return (site, ops) => {
    const places = placesOf(site, ops);
    const reduction = site.string("reduction", "none");
    const [toData, toUpdates] = (REDUCTIONS[reduction] ?? refused(site, reduction))({ site, ops, places });
    return [toData, undefined, toUpdates];
  };
}

function refused(site: Adjoint, reduction: string): never {
  throw site.fault("unsupported", `reduction ${reduction}`, {
    expected: Object.keys(REDUCTIONS).join(", "),
    got: reduction,
  });
}

export const ScatterND: GradientRule = rule((site, ops) => ({
  gather: (from) => ops.op("GatherND", [from, site.input(1)]),
  scatter: (into, values, reduction) => ops.op("ScatterND", [into, site.input(1), values], { reduction }),
}));

export const ScatterElements: GradientRule = rule((site, ops) => {
  const axis = site.int("axis", 0);
  return {
    gather: (from) => ops.op("GatherElements", [from, site.input(1)], { axis }),
    scatter: (into, values, reduction) =>
      ops.op("ScatterElements", [into, site.input(1), values], { axis, reduction }),
  };
});

type Scatter = { readonly site: Adjoint; readonly ops: Ops; readonly places: Places };
type Both = readonly [toData: () => string, toUpdates: () => string];

const REDUCTIONS: Readonly<Record<string, (scatter: Scatter) => Both>> = {
  // Where indices repeat, the standard leaves open who wins, and so who should get the gradient.
  none: ({ site, ops, places }) => [
    () => places.scatter(site.dy, ops.zeros(site.shape(2), site.dy), "none"),
    () => places.gather(site.dy),
  ],
  add: ({ site, places }) => [() => site.dy, () => places.gather(site.dy)],
  mul: product,
  max: extreme,
  min: extreme,
};

/**
 * y = data · Π updates. The other updates of a position are y over this one, unless zeros are among them: so
 * zeros are counted and left out of the product.
 */
function product({ site, ops, places }: Scatter): Both {
  const [data, updates, dy] = [site.input(0), site.input(2), site.dy];
  const [zero, one] = [ops.number(0, dy), ops.number(1, dy)];
  return [
    () => ops.mul(dy, places.scatter(ops.expand(one, site.shape(0)), updates, "mul")),
    () => {
      const isZero = ops.op("Equal", [updates, zero]);
      const zeros = places.gather(
        places.scatter(ops.zeros(site.shape(0), dy), ops.where(isZero, one, zero), "add"),
      );
      const solid = ops.where(isZero, one, updates);
      const whole = places.gather(ops.mul(dy, places.scatter(data, solid, "mul")));
      const others = ops.sub(zeros, ops.where(isZero, one, zero));
      return ops.gate(ops.op("Equal", [others, zero]), ops.div(whole, solid));
    },
  ];
}

/** Data and updates that tie for the extreme share dy evenly, as torch.scatter_reduce does. */
function extreme({ site, ops, places }: Scatter): Both {
  const [zero, one] = [ops.number(0, site.dy), ops.number(1, site.dy)];
  const mine = once(() => ops.op("Equal", [site.input(0), site.y]));
  const theirs = once(() => ops.op("Equal", [site.input(2), places.gather(site.y)]));
  const share = once(() => {
    const held = ops.where(mine(), one, zero);
    return ops.div(site.dy, places.scatter(held, ops.where(theirs(), one, zero), "add"));
  });
  return [() => ops.gate(mine(), share()), () => ops.gate(theirs(), places.gather(share()))];
}

/** Every value goes back to where it was found; no place is found twice. */
export const TopK: GradientRule = (site, ops) => [
  () => {
    const axis = site.axis(site.int("axis", -1), site.shape(0).length);
    const found = site.node.outputs[1] || foundBy(site, ops);
    return ops.op("ScatterElements", [ops.zeros(site.shape(0), site.dy), found, site.dy], { axis });
  },
  undefined,
];

/** The second output of a node that leaves it out. */
function foundBy(site: Adjoint, ops: Ops): string {
  const attributes = Object.fromEntries(
    ["axis", "largest", "sorted"].flatMap((name) =>
      site.node.attributes.has(name) ? [[name, site.int(name)] as const] : [],
    ),
  );
  return ops.build.emitMany("TopK", [site.input(0), site.input(1)], { outputs: 2, attributes })[1]!;
}

/** Of `[off, on]`, each gets the sum of what arrives where it was written. */
export const OneHot: GradientRule = (site, ops) => [
  undefined,
  undefined,
  () => {
    const [zero, one] = [ops.reshape(ops.number(0, site.dy), [1]), ops.reshape(ops.number(1, site.dy), [1])];
    const ends = ops.op("Concat", [zero, one], { axis: 0 });
    const lit = ops.op("OneHot", [ops.cast(site.input(0), "int64"), site.input(1), ends], {
      axis: site.int("axis", -1),
    });
    const on = ops.op("Equal", [lit, ops.number(1, site.dy)]);
    const total = (x: string) =>
      ops.reshape(
        ops.sum(
          x,
          ops.shape(x).map((_, axis) => axis),
        ),
        [1],
      );
    const off = ops.where(on, ops.number(0, site.dy), site.dy);
    return ops.op("Concat", [total(off), total(ops.gate(on, site.dy))], { axis: 0 });
  },
];
