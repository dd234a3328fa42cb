import { LIMITS } from "../limits.ts";
import type { Ops } from "../ops.ts";
import type { Site } from "../site.ts";
import { type Activation, activationsOf } from "./cell.ts";
import { cutInto, joined } from "./parts.ts";
import type { Expansion } from "./rule.ts";

/** One direction's cell: weights with the inputs as rows, so that no step multiplies by a transposed one. */
type Cell = {
  readonly ops: Ops;
  readonly hidden: number;
  /** Activation functions in the standard's order (f, g, h), clipping included. */
  readonly act: readonly Activation[];
  /** Rᵀ `[hidden, gates·hidden]`. */
  readonly r: string;
  /** R's bias of GRU's candidate `[batch, hidden]`, where it may not be added to W's beforehand. */
  readonly rBias: string | undefined;
  /** LSTM's P of the input, output and forget gate, each `[batch, hidden]`. */
  readonly peepholes: readonly string[] | undefined;
  /** GRU's linear_before_reset, LSTM's input_forget. */
  readonly variant: boolean;
};

/** h and, for LSTM, c; both `[batch, hidden]`. */
type State = { readonly h: string; readonly c: string };
/** From a step's share of X·Wᵀ + b, cut where the kind says, and the state before to the state after. */
type Step = (cell: Cell, x: readonly string[], state: State) => State;

type Kind = {
  readonly gates: number;
  readonly activations: readonly string[];
  /** Gates in each part that a step receives X·Wᵀ in. */
  readonly parts: readonly number[];
  readonly variant?: string;
  readonly step: Step;
};

/** Sizes of a node, time first. */
type Frame = {
  readonly steps: number;
  readonly batch: number;
  readonly directions: number;
  readonly hidden: number;
  readonly batchFirst: boolean;
};

/** Steps we unroll, both directions together: beyond, the graph itself would be more than a device holds. */
const MOST_STEPS = LIMITS.nodes / 20;

function frameOf(at: Site): Frame {
  const batchFirst = at.int("layout", 0) === 1;
  const [a, b] = at.shape(0) as [number, number, number];
  const [directions, , hidden] = at.shape(2) as [number, number, number];
  const steps = batchFirst ? b : a;
  if (steps < 1 || steps * directions > MOST_STEPS)
    throw at.fault("unsupported", "time steps", {
      expected: `1 to ${MOST_STEPS / directions}`,
      got: `${steps}`,
      todo: "Bind a shorter sequence",
    });
  return { steps, batch: batchFirst ? a : b, directions, hidden, batchFirst };
}

/**
 * RNN, GRU and LSTM (since version 7; `layout` since 14), unrolled. What depends on X alone is one product
 * over all time steps and both directions; a step multiplies h by Rᵀ.
 */
function recurrent(kind: Kind): Expansion {
  return (at, ops) => {
    const frame = frameOf(at);
    const inputs = inputProducts(at, ops, { kind, frame });
    const masks = masksOf(at, ops, frame);
    const runs = inputs.map((x, d) => {
      const cell = cellOf(at, ops, { kind, frame, d });
      const start = {
        h: initial(at, ops, { frame, d, index: 5 }),
        c: initial(at, ops, { frame, d, index: 6 }),
      };
      const backward = d === 1 || at.string("direction", "forward") === "reverse";
      return unroll(cell, { x, masks, start, backward, step: kind.step });
    });
    const wanted = (index: number) => at.wants(index);
    return [
      wanted(0) ? sequence(ops, frame, runs) : undefined,
      ...(["h", "c"] as const).map((part, i) =>
        wanted(1 + i)
          ? lastState(
              ops,
              frame,
              runs.map(({ last }) => last[part]),
            )
          : undefined,
      ),
    ];
  };
}

/** By direction, step and part: what a step reads of X·Wᵀ + b. */
function inputProducts(at: Site, ops: Ops, { kind, frame }: { kind: Kind; frame: Frame }) {
  const { steps, batch, directions, hidden, batchFirst } = frame;
  const width = at.shape(0)[2]!;
  const x = batchFirst ? ops.transpose(at.input(0), [1, 0, 2]) : at.input(0);
  const w = ops.swap(ops.reshape(at.input(1), [directions * kind.gates * hidden, width]));
  const product = ops.matmul(ops.reshape(x, [steps * batch, width]), w);
  const parts = Array.from({ length: directions }, () => kind.parts.map((gates) => gates * hidden)).flat();
  const bias = inputBias(at, ops, { kind, frame });
  const cut = cutInto(ops, bias === undefined ? product : ops.add(product, bias), { axis: 1, sizes: parts });
  const times = cut.map((part) => cutInto(ops, part, { axis: 0, sizes: new Array(steps).fill(batch) }));
  const each = kind.parts.length;
  return Array.from({ length: directions }, (_, d) =>
    Array.from({ length: steps }, (_, t) => times.slice(d * each, (d + 1) * each).map((part) => part[t]!)),
  );
}

/**
 * W's biases and R's, `[directions·gates·hidden]`, but for the share that a step adds itself (`rBias`).
 */
function inputBias(at: Site, ops: Ops, { kind, frame }: { kind: Kind; frame: Frame }): string | undefined {
  if (!at.has(3)) return undefined;
  const { directions, hidden } = frame;
  const rows = kind.gates * hidden;
  const both = ops.reshape(at.input(3), [directions, 2, rows]);
  if (!biasApart(at, kind)) return ops.reshape(ops.sum(both, [1]), [directions * rows]);
  const [w, r] = cutInto(ops, both, { axis: 1, sizes: [1, 1] });
  const gates = ops.slice(r!, { axes: [2], starts: [0], ends: [rows - hidden] });
  const padded = ops.pad(gates, { before: [0, 0, 0], after: [0, 0, hidden] });
  return ops.reshape(ops.add(w!, padded), [directions * rows]);
}

/** Only GRU tells R's biases from W's: `linear_before_reset` scales them by the reset gate. */
function biasApart(at: Site, kind: Kind): boolean {
  return kind.gates === 3 && at.int("linear_before_reset", 0) !== 0;
}

function cellOf(at: Site, ops: Ops, part: { kind: Kind; frame: Frame; d: number }): Cell {
  const { kind, frame, d } = part;
  const { hidden } = frame;
  const rows = kind.gates * hidden;
  const own = (index: number, shape: readonly number[]) => {
    const x = at.input(index);
    const mine = frame.directions === 1 ? x : ops.slice(x, { axes: [0], starts: [d], ends: [d + 1] });
    return ops.reshape(mine, shape);
  };
  // Repeated for the batch once: engines add equal shapes faster than they broadcast, and a step is small.
  const repeated = (x: string) => ops.expand(x, [frame.batch, hidden]);
  const candidate = () =>
    repeated(ops.slice(own(3, [2 * rows]), { axes: [0], starts: [2 * rows - hidden], ends: [2 * rows] }));
  const peepholes = () => cutInto(ops, own(7, [3 * hidden]), { axis: 0, sizes: [hidden, hidden, hidden] });
  return {
    ops,
    hidden,
    act: activationsOf(at, ops, { names: kind.activations, d }),
    r: ops.swap(own(2, [rows, hidden])),
    rBias: at.has(3) && biasApart(at, kind) ? candidate() : undefined,
    peepholes: kind.gates === 4 && at.has(7) ? peepholes().map(repeated) : undefined,
    variant: kind.variant !== undefined && at.int(kind.variant, 0) !== 0,
  };
}

/** A direction's first state `[batch, hidden]`; zeros where the node has none. */
function initial(
  at: Site,
  ops: Ops,
  { frame, d, index }: { frame: Frame; d: number; index: number },
): string {
  const { batch, hidden, directions, batchFirst } = frame;
  if (!at.has(index)) return ops.zeros([batch, hidden], at.input(0));
  const axis = batchFirst ? 1 : 0;
  const x = at.input(index);
  const own = directions === 1 ? x : ops.slice(x, { axes: [axis], starts: [d], ends: [d + 1] });
  return ops.reshape(own, [batch, hidden]);
}

/** Which examples take part in a step; "all" and "none" where that is known. */
type Mask = "all" | "none" | { readonly active: string };

/**
 * By step, whether `sequence_lens` lets an example take it. Going backward the padding comes first and leaves
 * the first state as it is, so an example begins at its own last step, as the standard wants.
 */
function masksOf(at: Site, ops: Ops, { steps, batch }: Frame): readonly Mask[] {
  if (!at.has(4)) return Array.from({ length: steps }, () => "all");
  const lengths = ops.cast(ops.reshape(at.input(4), [batch, 1]), "int64");
  return Array.from({ length: steps }, (_, t) => {
    const active = ops.op("Greater", [lengths, ops.build.ints([t])]);
    const known = ops.build.constantOf(active)?.data as Uint8Array | undefined;
    if (known?.every((flag) => flag === 1)) return "all";
    return known?.every((flag) => flag === 0) ? "none" : { active };
  });
}

type Course = {
  readonly x: readonly (readonly string[])[];
  readonly masks: readonly Mask[];
  readonly start: State;
  readonly backward: boolean;
  readonly step: Step;
};

/** What one direction gives: h after each step, in the order of time, and the last state. */
type Run = { readonly y: readonly string[]; readonly last: State };

function unroll(cell: Cell, { x, masks, start, backward, step }: Course): Run {
  const { ops } = cell;
  const nothing = ops.zeros(ops.shape(start.h), start.h);
  const y = new Array<string>(x.length);
  let state = start;
  for (let s = 0; s < x.length; s++) {
    const t = backward ? x.length - 1 - s : s;
    const mask = masks[t]!;
    if (mask === "none") {
      y[t] = nothing;
      continue;
    }
    const next = step(cell, x[t]!, state);
    if (mask === "all") {
      y[t] = next.h;
      state = next;
      continue;
    }
    y[t] = ops.gate(mask.active, next.h);
    const held = (after: string, before: string) =>
      after === before ? before : ops.where(mask.active, after, before);
    state = { h: held(next.h, state.h), c: held(next.c, state.c) };
  }
  return { y, last: state };
}

/** Y: `[steps, directions, batch, hidden]`, or with the batch first `[batch, steps, directions, hidden]`. */
function sequence(ops: Ops, frame: Frame, runs: readonly Run[]): string {
  const { steps, batch, hidden, batchFirst } = frame;
  const pieces = runs.map(({ y }) => ops.reshape(joined(ops, y, 0), [steps, 1, batch, hidden]));
  const y = joined(ops, pieces, 1);
  return batchFirst ? ops.transpose(y, [2, 0, 1, 3]) : y;
}

/** Y_h or Y_c: `[directions, batch, hidden]`, or `[batch, directions, hidden]`. */
function lastState(ops: Ops, { batch, hidden, batchFirst }: Frame, last: readonly string[]): string {
  const shape = batchFirst ? [batch, 1, hidden] : [1, batch, hidden];
  return joined(
    ops,
    last.map((h) => ops.reshape(h, shape)),
    batchFirst ? 1 : 0,
  );
}

/** Elman's network: h = f(x + h·Rᵀ) (RNN, since version 14). */
export const RNN = recurrent({
  gates: 1,
  activations: ["Tanh"],
  parts: [1],
  step: ({ ops, act, r }, [x], { h, c }) => ({ h: act[0]!(ops.add(x!, ops.matmul(h, r))), c }),
});

/**
 * Gates z, r, h: h' = (1 − z)·g(…) + z·h, written as candidate + z·(h − candidate), which is one product less
 * (GRU, since version 14; Cho et al. 2014).
 */
export const GRU = recurrent({
  gates: 3,
  activations: ["Sigmoid", "Tanh"],
  parts: [2, 1],
  variant: "linear_before_reset",
  step: (cell, x, { h, c }) => {
    const { ops } = cell;
    const [z, candidate] = cell.variant ? resetAfter(cell, x, h) : resetBefore(cell, x, h);
    return { h: ops.add(candidate, ops.mul(z, ops.sub(h, candidate))), c };
  },
});

/**
 * The reset gate scales R·h + b, which makes one product per step of all gates (torch's and cuDNN's form).
 */
function resetAfter({ ops, hidden, act, r, rBias }: Cell, x: readonly string[], h: string) {
  const product = ops.matmul(h, r);
  const [gates, held] = cutInto(ops, product, { axis: 1, sizes: [2 * hidden, hidden] });
  const open = act[0]!(ops.add(x[0]!, gates!));
  const [z, reset] = cutInto(ops, open, { axis: 1, sizes: [hidden, hidden] });
  const biased = rBias === undefined ? held! : ops.add(held!, rBias);
  return [z!, act[1]!(ops.add(x[1]!, ops.mul(reset!, biased)))] as const;
}

/** The reset gate scales h itself: the candidate's product must wait for it (the paper's form). */
function resetBefore({ ops, hidden, act, r }: Cell, x: readonly string[], h: string) {
  const [rGates, rHeld] = cutInto(ops, r, { axis: 1, sizes: [2 * hidden, hidden] });
  const open = act[0]!(ops.add(x[0]!, ops.matmul(h, rGates!)));
  const [z, reset] = cutInto(ops, open, { axis: 1, sizes: [hidden, hidden] });
  return [z!, act[1]!(ops.add(x[1]!, ops.matmul(ops.mul(reset!, h), rHeld!)))] as const;
}

/**
 * Gates i, o, f, c. Without peepholes the three sigmoids are one; with them i and f see the old cell and o
 * the new one (LSTM, since version 14; Gers et al. 2002). `input_forget` couples the gates: f = 1 − i.
 */
export const LSTM = recurrent({
  gates: 4,
  activations: ["Sigmoid", "Tanh", "Tanh"],
  parts: [4],
  variant: "input_forget",
  step: (cell, [x], { h, c }) => {
    const { ops, act } = cell;
    const sum = ops.add(x!, ops.matmul(h, cell.r));
    const { i, f, candidate, o } = cell.peepholes ? peeping(cell, sum, c) : gated(cell, sum);
    const keep = cell.variant ? ops.sub(ops.number(1, i), i) : f;
    const next = ops.add(ops.mul(keep, c), ops.mul(i, candidate));
    return { h: ops.mul(o(next), act[2]!(next)), c: next };
  },
});

type Gates = { i: string; f: string; candidate: string; o: (next: string) => string };

function gated({ ops, hidden, act }: Cell, sum: string): Gates {
  const [sigmoids, c] = cutInto(ops, sum, { axis: 1, sizes: [3 * hidden, hidden] });
  const [i, o, f] = cutInto(ops, act[0]!(sigmoids!), { axis: 1, sizes: [hidden, hidden, hidden] });
  return { i: i!, f: f!, candidate: act[1]!(c!), o: () => o! };
}

function peeping({ ops, hidden, act, peepholes }: Cell, sum: string, before: string): Gates {
  const sizes = [hidden, hidden, hidden];
  const [i, o, f, c] = cutInto(ops, sum, { axis: 1, sizes: [...sizes, hidden] });
  const [pi, po, pf] = peepholes!;
  const gate = (x: string, weight: string, cell: string) => act[0]!(ops.add(x, ops.mul(weight, cell)));
  return {
    i: gate(i!, pi!, before),
    f: gate(f!, pf!, before),
    candidate: act[1]!(c!),
    o: (next) => gate(o!, po!, next),
  };
}
