import type { TensorSpec } from "@tutti/update/layout";

/** What a run asks for. Patterns are module names or their dotted suffixes; `*` stands for any characters. */
export type AdapterSpec = {
  readonly rank: number;
  readonly alpha: number;
  /** Scale alpha/√rank rather than alpha/rank (Kalajdzievski 2023, arXiv 2312.03732). */
  readonly rslora?: boolean;
  /** "all-linear": every MatMul and Gemm with a constant 2-D weight, except what `save` trains whole. */
  readonly targets: "all-linear" | readonly string[];
  /** Whole tensors to train beside the factors: modules ("head") or tensors ("head.bias"). */
  readonly save?: readonly string[];
  /** Rank or alpha of modules that a pattern matches; the first match counts. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
};

export type AdapterKind = "linear" | "conv" | "embedding";

/** Where a weight meets a node: the node's first output names it, as node names may be empty or repeat. */
export type Use = {
  readonly node: string;
  /** Index of the node's input. */
  readonly input: number;
  /** The stored tensor passes a Transpose before it gets here. */
  readonly transposed: boolean;
  /** It passes a Cast or DequantizeLinear: the node does not read what the file stores. */
  readonly converted: boolean;
};

/** One weight with factors beside it. */
export type AdaptedModule = {
  readonly module: string;
  readonly kind: AdapterKind;
  /** The base file's initializer (or the output of its Constant node). */
  readonly weight: string;
  /** How the file stores it. Conv [out, in, …] is "out-in", an embedding table [in, out] is "in-out". */
  readonly layout: "in-out" | "out-in";
  /** Width that A reads (an embedding's vocabulary) and width that B writes. */
  readonly in: number;
  readonly out: number;
  /** Spatial sizes of a convolution's kernel; empty otherwise. */
  readonly kernel: readonly number[];
  readonly rank: number;
  readonly alpha: number;
  /** alpha/rank or alpha/√rank, what the product B·A is multiplied by. */
  readonly scale: number;
  readonly uses: readonly Use[];
  /** Others read the weight too: a merge must give these uses a copy of their own. */
  readonly shared: boolean;
};

/** One tensor that is trained whole, under the name `name`, with the shape the file stores. */
export type SavedTensor = {
  readonly name: string;
  readonly initializer: string;
  readonly shape: readonly number[];
  /** As for modules; "as-is" where PEFT's shape is the file's shape (biases, norms, tables, kernels). */
  readonly layout: "in-out" | "as-is";
  readonly uses: readonly Use[];
  readonly shared: boolean;
};

/**
 * A spec bound to one base model. Plain data: JSON carries it unchanged, and resolving the same spec
 * against the same base gives an equal value on every device.
 */
export type ResolvedAdapter = {
  readonly baseSha256: string;
  readonly modules: readonly AdaptedModule[];
  readonly saved: readonly SavedTensor[];
  /**
   * Everything that is trained, in the order of the flat vector: A and B by module, then the saved tensors.
   */
  readonly tensors: readonly TensorSpec[];
};

/** PEFT's names of a module's factors (peft.tuners.lora: embeddings have parameters, the rest has layers). */
export function factorNames(module: string, kind: AdapterKind): { readonly a: string; readonly b: string } {
  if (kind === "embedding") return { a: `${module}.lora_embedding_A`, b: `${module}.lora_embedding_B` };
  return { a: `${module}.lora_A.weight`, b: `${module}.lora_B.weight` };
}

/** Which factor a tensor name stands for; "whole" for saved tensors. */
export function factorOf(name: string): "A" | "B" | "whole" {
  const found = /\.lora_(?:(A|B)\.weight|embedding_(A|B))$/.exec(name);
  return (found?.[1] ?? found?.[2] ?? "whole") as "A" | "B" | "whole";
}

/** The two factors of a module with PEFT's names and shapes: A [r, in, …kernel], B [out, r, 1…]. */
export function factorSpecs(
  module: Pick<AdaptedModule, "module" | "kind" | "in" | "out" | "kernel" | "rank">,
): readonly [TensorSpec, TensorSpec] {
  const { a, b } = factorNames(module.module, module.kind);
  const ones = module.kernel.map(() => 1);
  return [
    { name: a, shape: [module.rank, module.in, ...module.kernel] },
    { name: b, shape: [module.out, module.rank, ...ones] },
  ];
}
