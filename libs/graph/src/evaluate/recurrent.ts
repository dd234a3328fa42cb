import type { Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { numbers } from "../tensor.ts";
import { type EvaluateRule, filled } from "./rule.ts";

type Activation = (x: number) => number;
const sigmoid: Activation = (x) => 1 / (1 + Math.exp(-x));
/** The three that exporters write; the standard's others are refused by name. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  Sigmoid: sigmoid,
  Tanh: Math.tanh,
  Relu: (x) => Math.max(0, x),
};

/** What one direction's cell works with; `gate` reads weights by gate, row and the vector they multiply. */
type Cell = {
  readonly hidden: number;
  readonly f: readonly Activation[];
  /** W·x + b_W of a gate's unit, and R·h + b_R of it. */
  input(gate: number, unit: number, x: readonly number[]): number;
  recurrent(gate: number, unit: number, h: readonly number[]): number;
  /** LSTM's peephole weight of input, output and forget gate (in P's order), 0 where there is none. */
  peephole(gate: number, unit: number): number;
};

type State = { readonly h: readonly number[]; readonly c: readonly number[] };
type Step = (at: Site, cell: Cell, now: { x: readonly number[]; state: State }) => State;

/**
 * The loop over directions, batch and time that RNN, GRU and LSTM share. `sequence_lens` stops an example
 * early: its later outputs are zero and its last state stays (ONNX, GRU, since version 14). The reverse
 * direction begins at each example's own last step, not at the padding. The axes of X, Y and the states have
 * the batch first with `layout` 1, else time or direction; that is all the layouts differ in.
 */
function recurrent(gates: number, activations: readonly string[], step: Step): EvaluateRule {
  return (at, out) => {
    const first = at.int("layout", 0) === 1;
    const [a, b, width] = at.shape(0) as [number, number, number];
    const [steps, batch] = first ? [b, a] : [a, b];
    const direction = at.string("direction", "forward");
    const directions = direction === "bidirectional" ? 2 : 1;
    const cells = Array.from({ length: directions }, (_, d) => cellOf(at, { d, gates, width, activations }));
    const { hidden } = cells[0]!;
    const x = numbers(at.need(0));
    const lengths = at.has(4) ? at.numbers(4) : undefined;
    const initial = (index: number, d: number, n: number) => {
      const start = (first ? n * directions + d : d * batch + n) * hidden;
      return at.has(index)
        ? numbers(at.need(index)).slice(start, start + hidden)
        : new Array<number>(hidden).fill(0);
    };
    const [y, lastH, lastC] = [steps, 1, 1].map(
      (times) => new Float64Array(times * directions * batch * hidden),
    );
    for (let d = 0; d < directions; d++) {
      for (let n = 0; n < batch; n++) {
        let state: State = { h: initial(5, d, n), c: initial(6, d, n) };
        const length = lengths?.[n] ?? steps;
        for (let s = 0; s < length; s++) {
          const t = d === 1 || direction === "reverse" ? length - 1 - s : s;
          const from = (first ? n * steps + t : t * batch + n) * width;
          state = step(at, cells[d]!, { x: x.slice(from, from + width), state });
          y!.set(
            state.h,
            (first ? (n * steps + t) * directions + d : (t * directions + d) * batch + n) * hidden,
          );
        }
        const to = (first ? n * directions + d : d * batch + n) * hidden;
        lastH!.set(state.h, to);
        lastC!.set(state.c, to);
      }
    }
    return out.map((like: Static, i) => filled(like, (k) => [y, lastH, lastC][i]![k]!));
  };
}

/**
 * One direction's share of W, R, B and P. B holds W's biases and then R's, apart because GRU's reset gate may
 * scale the second alone. `activations` lists both directions' names, one after the other.
 */
function cellOf(
  at: Site,
  part: { d: number; gates: number; width: number; activations: readonly string[] },
): Cell {
  const { d, gates, width, activations } = part;
  const bound = at.float("clip", Number.POSITIVE_INFINITY);
  const hidden = at.int("hidden_size", at.shape(2)[2]!);
  const rows = gates * hidden;
  const [w, r] = [numbers(at.need(1)), numbers(at.need(2))];
  const bias = at.has(3) ? numbers(at.need(3)) : undefined;
  const peepholes = at.has(7) ? numbers(at.need(7)) : undefined;
  const named = at.node.attributes.get("activations");
  const names = named?.kind === "strings" ? named.value.slice(d * activations.length) : activations;
  const f = activations.map((_, i) => {
    const found = ACTIVATIONS[names[i] ?? ""];
    if (!found) throw at.fault("unsupported", "attribute activations", { got: names[i] ?? "too few" });
    // The cell's own activation, LSTM's third, is not clipped (expand/cell.ts).
    return i < 2 ? (x: number) => found(Math.max(-bound, Math.min(bound, x))) : found;
  });
  const dot = (m: readonly number[], row: number, v: readonly number[]) => {
    return v.reduce((sum, value, k) => sum + m[(d * rows + row) * v.length + k]! * value, 0);
  };
  const biasAt = (row: number) => bias?.[d * 2 * rows + row] ?? 0;
  const row = (gate: number, unit: number) => gate * hidden + unit;
  return {
    hidden,
    f,
    input: (gate, unit, x) => dot(w, row(gate, unit), x.slice(0, width)) + biasAt(row(gate, unit)),
    recurrent: (gate, unit, h) => dot(r, row(gate, unit), h) + biasAt(rows + row(gate, unit)),
    peephole: (gate, unit) => peepholes?.[d * 3 * hidden + row(gate, unit)] ?? 0,
  };
}

function units(cell: Cell, value: (unit: number) => number): number[] {
  return Array.from({ length: cell.hidden }, (_, unit) => value(unit));
}

/** Elman's network: one gate, which is the state (RNN, since version 14). */
export const RNN = recurrent(1, ["Tanh"], (_, cell, { x, state }) => {
  const h = units(cell, (unit) => cell.f[0]!(cell.input(0, unit, x) + cell.recurrent(0, unit, state.h)));
  return { h, c: state.c };
});

/**
 * Gates z, r, h, in the order of W's rows; `linear_before_reset` says whether r scales R·h + b or h itself:
 * the first is torch's and cuDNN's, the second is the default and the paper's (GRU, since version 14; Cho et
 * al. 2014).
 */
export const GRU = recurrent(3, ["Sigmoid", "Tanh"], (at, cell, { x, state }) => {
  const [f, g] = [cell.f[0]!, cell.f[1]!];
  const gate = (k: number) =>
    units(cell, (unit) => f(cell.input(k, unit, x) + cell.recurrent(k, unit, state.h)));
  const [z, r] = [gate(0), gate(1)];
  const reset = state.h.map((value, unit) => r[unit]! * value);
  const linear = at.int("linear_before_reset", 0) !== 0;
  const candidate = units(cell, (unit) => {
    const held = linear ? r[unit]! * cell.recurrent(2, unit, state.h) : cell.recurrent(2, unit, reset);
    return g(cell.input(2, unit, x) + held);
  });
  const h = units(cell, (unit) => (1 - z[unit]!) * candidate[unit]! + z[unit]! * state.h[unit]!);
  return { h, c: state.c };
});

/**
 * Gates i, o, f, c, in the order of W's rows (torch's are i, f, g, o); peepholes of input and forget gate see
 * the old cell, the output gate's the new one (LSTM, since version 14; Gers et al. 2002).
 */
export const LSTM = recurrent(4, ["Sigmoid", "Tanh", "Tanh"], (at, cell, { x, state }) => {
  const [f, g, h] = [cell.f[0]!, cell.f[1]!, cell.f[2]!];
  const sum = (gate: number, unit: number) => cell.input(gate, unit, x) + cell.recurrent(gate, unit, state.h);
  const c = units(cell, (unit) => {
    const take = f(sum(0, unit) + cell.peephole(0, unit) * state.c[unit]!);
    const coupled = at.int("input_forget", 0) !== 0;
    const keep = coupled ? 1 - take : f(sum(2, unit) + cell.peephole(2, unit) * state.c[unit]!);
    return keep * state.c[unit]! + take * g(sum(3, unit));
  });
  const out = units(cell, (unit) => f(sum(1, unit) + cell.peephole(1, unit) * c[unit]!));
  return { h: units(cell, (unit) => out[unit]! * h(c[unit]!)), c };
});
