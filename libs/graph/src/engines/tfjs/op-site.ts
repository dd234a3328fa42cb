import type { Node, Static } from "../../ir.ts";
import { type Known, Site } from "../../site.ts";
import type { Constants } from "./constants.ts";
import { type TfType, tfType } from "./convert.ts";
import type { Kernel, Tf, TfTensor } from "./tfjs.ts";

/** An operator: reads and checks its node once, at load, and returns what runs at every step. */
export type Operator = (site: OpSite, tf: Tf) => Kernel;

/** The node reader with what only an engine needs: output statics, and constants in the form it wants. */
export class OpSite extends Site {
  /** Which backend runs; some kernels are worth avoiding on some. */
  readonly backend: string;
  /** Where each input comes from at run time: a value's name, a constant's key, or "" for nothing. */
  readonly sources: string[];
  readonly #known: Known;
  readonly #constants: Constants;

  constructor(node: Node, known: Known, store: { constants: Constants; backend: string }) {
    super(node, known);
    this.sources = [...node.inputs];
    this.backend = store.backend;
    this.#known = known;
    this.#constants = store.constants;
  }

  /** Static of an output; the graph was traced, so it is known. */
  result(index = 0): Static {
    return this.#known.static(this.node.outputs[index] ?? "");
  }

  /** A fresh copy of the first output's shape, as tfjs wants it. */
  shapeOut(index = 0): number[] {
    return [...this.result(index).shape];
  }

  rank(index: number): number {
    return this.shape(index).length;
  }

  type(index: number): TfType {
    return tfType(this.dtype(index), this.node.inputs[index] ?? "");
  }

  typeOut(index = 0): TfType {
    return tfType(this.result(index).dtype, this.node.outputs[index] ?? "");
  }

  /** Whether an input is constant at load; it may be too large to be read as numbers. */
  isConstant(index: number): boolean {
    return this.has(index) && this.#constants.has(this.node.inputs[index]!);
  }

  /** Makes the kernel receive `change(constant)` for input `index`, made once; false if it is no constant. */
  prepare(index: number, how: string, change: (whole: TfTensor) => TfTensor): boolean {
    if (!this.isConstant(index)) return false;
    this.sources[index] = this.#constants.change(this.node.inputs[index]!, how, change);
    return true;
  }

  /** Declares inputs the kernel does not read, such as shapes: they are neither uploaded nor kept alive. */
  skip(...indices: readonly number[]): void {
    for (const index of indices) if (index < this.sources.length) this.sources[index] = "";
  }

  /** Declares every input from `index` on unread. */
  skipFrom(index: number): void {
    this.sources.fill("", index);
  }

  /** A tensor made at load that lives as long as the program. */
  keep(tensor: TfTensor): TfTensor {
    return this.#constants.keep(tensor);
  }
}
