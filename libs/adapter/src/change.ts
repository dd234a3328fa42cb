import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { sizeOf } from "@tutti/graph/ir";
import { type AdaptedModule, factorSpecs, type ResolvedAdapter, type Use } from "./spec.ts";

/** Values of an adapter's tensors by name, each as long as its shape says. */
export type AdapterTensors = ReadonlyMap<string, Float32Array>;

/** One stored tensor that changes: `apply` works on its values, in the file's order. */
export type Change = {
  readonly what: string;
  readonly tensor: string;
  readonly uses: readonly Use[];
  readonly shared: boolean;
  apply(values: Float64Array): void;
};

/** What an adapter does to the base's weights; with `sign` −1, what takes the factors out again. */
export function changesOf(
  adapter: ResolvedAdapter,
  tensors: AdapterTensors,
  { sign = 1 }: { readonly sign?: 1 | -1 } = {},
): readonly Change[] {
  const products = adapter.modules.map((module): Change => {
    const [a, b] = factorSpecs(module).map(({ name }) => tensors.get(name)!) as [Float32Array, Float32Array];
    const { weight, uses, shared } = module;
    const apply = (values: Float64Array) => addProduct(values, module, { a, b, scale: sign * module.scale });
    return { what: module.module, tensor: weight, uses, shared, apply };
  });
  const whole = adapter.saved.map(({ name, initializer, uses, shared }): Change => {
    const apply = (values: Float64Array) => values.set(tensors.get(name)!);
    return { what: name, tensor: initializer, uses, shared, apply };
  });
  return [...products, ...whole];
}

/**
 * `W += scale·B·A` (Hu et al. 2021, section 4.1); a convolution's kernel counts as part of its input width.
 */
function addProduct(
  values: Float64Array,
  { layout, in: channels, out, kernel, rank }: AdaptedModule,
  { a, b, scale }: { a: Float32Array; b: Float32Array; scale: number },
): void {
  const width = channels * sizeOf(kernel);
  if (layout === "out-in") {
    for (let o = 0; o < out; o++) {
      for (let r = 0; r < rank; r++) {
        const factor = scale * b[o * rank + r]!;
        for (let i = 0; i < width; i++) values[o * width + i]! += factor * a[r * width + i]!;
      }
    }
    return;
  }
  // The same sums in the order in which the weight lies: an element's terms still come by rank.
  const factors = Float64Array.from(b, (_, at) => scale * b[(at % out) * rank + Math.floor(at / out)]!);
  for (let i = 0; i < width; i++) {
    for (let r = 0; r < rank; r++) {
      const factor = a[r * width + i]!;
      for (let o = 0; o < out; o++) values[i * out + o]! += factors[r * out + o]! * factor;
    }
  }
}

/** SHA-256 as hex digits; a platform's own is several times faster than ours and may be passed in. */
export type Sha256Hex = (bytes: Uint8Array) => string;

/**
 * Holds a base to the SHA-256 it was trained on.
 * @throws Fault("refused") with both hashes.
 */
export function checkBase(
  what: string,
  bytes: Uint8Array,
  { baseSha256, hash = sha256Hex }: { readonly baseSha256: string; readonly hash?: Sha256Hex | undefined },
): void {
  const got = hash(bytes);
  demand(
    got === baseSha256,
    () => new Fault("refused", `${what}: base model`, { expected: `SHA-256 ${baseSha256}`, got }),
  );
}

/**
 * Every tensor there, and of its size.
 * @throws Fault("bad-input") naming the tensor.
 */
export function checkTensors(what: string, adapter: ResolvedAdapter, tensors: AdapterTensors): void {
  for (const { name, shape } of adapter.tensors) {
    const length = tensors.get(name)?.length;
    if (length === sizeOf(shape)) continue;
    const expected = `${sizeOf(shape)} values`;
    throw new Fault("bad-input", `${what}: tensor ${name}`, { expected, got: `${length ?? "none"}` });
  }
}
