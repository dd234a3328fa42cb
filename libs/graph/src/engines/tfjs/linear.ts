import { sizeOf } from "../../ir.ts";
import { broadcastShape, expandTo } from "./broadcast.ts";
import type { Operator, OpSite } from "./op-site.ts";
import { matMul } from "./product.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/**
 * From how many multiplications per matrix a batch on wasm is cheaper one matrix at a time. Its batched
 * kernel is a plain loop (2.2 GFLOP/s, one core); its 2-D kernel is XNNPACK (14 to 28), but a call and its
 * copies cost some 10 µs.
 */
const WORTH_A_CALL = 12_800;

/** α·A'·B' + β·C. On wasm operands are transposed first: the kernel's own way is 10 times slower. */
export const Gemm: Operator = (site, tf) => {
  demandFloats(site);
  const alpha = site.float("alpha", 1);
  const beta = site.float("beta", 1);
  const ta = flipped(site, tf, { index: 0, flag: site.int("transA", 0) !== 0 });
  const tb = flipped(site, tf, { index: 1, flag: site.int("transB", 0) !== 0 });
  const shape = site.shapeOut();
  const [rows, columns] = shape as [number, number];
  const inner = sizeOf(site.shape(0)) === 0 ? 0 : sizeOf(site.shape(0)) / rows;
  const swap = worthSwapping(site, { rows, columns, inner });
  return (a, b, c) => {
    const operands = [ta ? tf.transpose(a) : a, tb ? tf.transpose(b) : b] as const;
    const product = matrix(site, tf, { operands, inner, swap });
    const scaled = alpha === 1 ? product : tf.mul(product, alpha);
    if (!c || beta === 0) return tf.reshape(scaled, shape);
    return tf.add(scaled, beta === 1 ? c : tf.mul(c, beta));
  };
};

/** tfjs multiplies no matrices of integers. */
function demandFloats(site: OpSite): void {
  if (site.type(0) === "float32") return;
  throw site.fault("unsupported", "inputs", { expected: "float32", got: site.dtype(0) });
}

/** Turns a constant operand at load; true where the kernel must transpose at each step. */
function flipped(site: OpSite, tf: Tf, operand: { index: number; flag: boolean }): boolean {
  if (!operand.flag) return false;
  return !site.prepare(operand.index, "transposed", (whole) => tf.transpose(whole));
}

/** A plain 2-D product; what wasm's kernel does not do for sizes of zero is done here. */
function matrix(site: OpSite, tf: Tf, { operands, inner, swap }: Product): TfTensor {
  const [a, b] = operands;
  const shape = [a.shape[0]!, b.shape[1]!];
  if (inner === 0 || sizeOf(shape) === 0) return tf.zeros(shape);
  return swap
    ? tf.transpose(matMul(site, tf, [tf.transpose(b), tf.transpose(a)]))
    : matMul(site, tf, operands);
}

type Product = { operands: readonly [TfTensor, TfTensor]; inner: number; swap: boolean };

/**
 * Whether to multiply the other way round, (B'A')'. wasm repacks a right operand it has not seen, 6 ns an
 * element, and that is more than the product when A has few rows: a gradient of a LoRA factor by activations.
 */
function worthSwapping(
  site: OpSite,
  { rows, columns, inner }: { rows: number; columns: number; inner: number },
) {
  return site.backend === "wasm" && !site.isConstant(1) && columns >= 4 * rows && columns * inner >= 8192;
}

/** numpy's matmul: vectors are promoted, leading dimensions broadcast. */
export const MatMul: Operator = (site, tf) => {
  demandFloats(site);
  const out = site.shapeOut();
  const left = site.rank(0) === 1 ? [1, ...site.shape(0)] : [...site.shape(0)];
  const right = site.rank(1) === 1 ? [...site.shape(1), 1] : [...site.shape(1)];
  const multiply = multiplier(site, tf, { left, right });
  return (a, b) => tf.reshape(multiply(tf.reshape(a, left), tf.reshape(b, right)), out);
};

type Shapes = { left: readonly number[]; right: readonly number[] };
type Multiply = (a: TfTensor, b: TfTensor) => TfTensor;

/** The way to multiply these shapes; results have any shape of the right size. */
function multiplier(site: OpSite, tf: Tf, { left, right }: Shapes): Multiply {
  const [m, k] = [left.at(-2)!, left.at(-1)!];
  const n = right.at(-1)!;
  const batchA = left.slice(0, -2);
  const batchB = right.slice(0, -2);
  if (sizeOf(batchB) === 1) {
    const rows = sizeOf(batchA) * m;
    const swap = worthSwapping(site, { rows, columns: n, inner: k });
    return (a, b) => {
      const operands = [tf.reshape(a, [rows, k]), tf.reshape(b, [k, n])] as const;
      return matrix(site, tf, { operands, inner: k, swap });
    };
  }
  const batch = broadcastShape(batchA, batchB);
  const count = sizeOf(batch);
  if (count * m * n === 0 || k === 0) return () => tf.zeros([count, m, n]);
  const flat = (x: TfTensor, dims: readonly number[]) =>
    tf.reshape(expandTo(tf, x, [...batch, ...dims]), [count, ...dims]);
  const oneByOne = site.backend === "wasm" && m * k * n >= WORTH_A_CALL;
  return (a, b) => {
    const [x, y] = [flat(a, [m, k]), flat(b, [k, n])];
    return oneByOne ? eachMatrix(tf, x, y) : tf.matMul(x, y);
  };
}

/**
 * A batch of products by the 2-D kernel. The matrices are cut from one copy of the heap (which is what
 * dataSync is on wasm, where nothing has to be waited for): tf.slice would copy the batch for every matrix.
 * Each then is a memory of its own, which product.ts need not look after; nor the batched kernel, which sets
 * nothing up.
 */
function eachMatrix(tf: Tf, a: TfTensor, b: TfTensor): TfTensor {
  const left = matrices(tf, a);
  const right = matrices(tf, b);
  return tf.concat(left.map((x, index) => tf.matMul(x, right[index]!)));
}

function matrices(tf: Tf, x: TfTensor): TfTensor[] {
  const [count, rows, columns] = x.shape as [number, number, number];
  const data = x.dataSync();
  const size = rows * columns;
  return Array.from({ length: count }, (_, index) =>
    tf.tensor(data.subarray(index * size, (index + 1) * size), [rows, columns], "float32"),
  );
}
