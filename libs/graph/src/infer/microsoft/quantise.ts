import type { Site } from "../../site.ts";
import { demandSize, one } from "../rule.ts";

/** A·dequantised(B)ᵀ, where B's rows are `[N, blocks, bytes per block]` (com.microsoft, MatMulNBits). */
export function MatMulNBits(at: Site) {
  const [k, n] = [at.int("K"), at.int("N")];
  demandSize(at, "inner size of input 0", { expected: k, got: at.shape(0).at(-1) ?? 0 });
  return one(at.dtype(0), at.shape(0).with(-1, n));
}
