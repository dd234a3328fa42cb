import type { Static } from "../ir.ts";
import type { Site } from "../site.ts";
import { demandSize } from "./rule.ts";

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
    const directions = at.string("direction", "forward") === "bidirectional" ? 2 : 1;
    const hidden = at.int("hidden_size", at.shape(2)[2]!);
    demandSize(at, "rows of W", { expected: gates * hidden, got: at.shape(1)[1] ?? 0 });
    demandSize(at, "columns of W", { expected: x[2]!, got: at.shape(1)[2] ?? 0 });
    demandSize(at, "directions of W", { expected: directions, got: at.shape(1)[0] ?? 0 });
    const dtype = at.dtype(0);
    const all = first ? [batch, steps, directions, hidden] : [steps, directions, batch, hidden];
    const last = { dtype, shape: first ? [batch, directions, hidden] : [directions, batch, hidden] };
    return [{ dtype, shape: all }, ...Array.from({ length: states }, () => last)];
  };
}

// Gates per cell, and how many last states follow Y: Y_h, and for LSTM Y_c.
export const RNN = recurrent(1, 1);
export const GRU = recurrent(3, 1);
export const LSTM = recurrent(4, 2);
