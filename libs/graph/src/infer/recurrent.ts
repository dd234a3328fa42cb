import type { Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { demandRank, demandShape, demandSize } from "./rule.ts";

const DIRECTIONS: ReadonlyMap<string, number> = new Map([
  ["forward", 1],
  ["reverse", 1],
  ["bidirectional", 2],
]);

/**
 * RNN, GRU and LSTM: X `[sequence, batch, input]`, W `[directions, gates·hidden, input]`,
 * R `[directions, gates·hidden, hidden]`; `layout` 1 puts the batch first (since version 14).
 */
function recurrent(gates: number, states: number) {
  return (at: Site): readonly Static[] => {
    const x = at.shape(0);
    demandSize(at, "rank", { expected: 3, got: x.length });
    const first = at.int("layout", 0) === 1;
    const [steps, batch] = first ? [x[1]!, x[0]!] : [x[0]!, x[1]!];
    demandRank(at, 2, 3);
    const directions = DIRECTIONS.get(at.string("direction", "forward"));
    if (!directions) throw at.fault("bad-input", "attribute direction", { expected: "a known one" });
    const hidden = at.int("hidden_size", at.shape(2)[2]!);
    demandSize(at, "rows of W", { expected: gates * hidden, got: at.shape(1)[1] ?? 0 });
    demandSize(at, "columns of W", { expected: x[2]!, got: at.shape(1)[2] ?? 0 });
    demandSize(at, "directions of W", { expected: directions, got: at.shape(1)[0] ?? 0 });
    demandShape(at, 2, [directions, gates * hidden, hidden]);
    demandShape(at, 3, [directions, 2 * gates * hidden]);
    demandShape(at, 4, [batch]);
    const state = first ? [batch, directions, hidden] : [directions, batch, hidden];
    for (const index of [5, 6]) demandShape(at, index, state);
    demandShape(at, 7, [directions, 3 * hidden]);
    const dtype = at.dtype(0);
    const all = first ? [batch, steps, directions, hidden] : [steps, directions, batch, hidden];
    const last = { dtype, shape: state };
    return [{ dtype, shape: all }, ...Array.from({ length: states }, () => last)];
  };
}

// Gates per cell, and how many last states follow Y: Y_h, and for LSTM Y_c.
export const RNN = recurrent(1, 1);
export const GRU = recurrent(3, 1);
export const LSTM = recurrent(4, 2);
