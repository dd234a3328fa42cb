import type { DType, Static, Tensor, TracedGraph } from "./ir.ts";

/** Plain attribute values; a float must be given as { float: x } since JavaScript has one number type. */
export type AttributeInit = number | string | readonly number[] | { readonly float: number };

/**
 * Appends nodes to a traced graph. Each emitted node gets its static shapes at once, so a rule that
 * emits something ill-shaped fails where it was written and not when it runs.
 */
export type Builder = {
  /** Emits a node with one output and returns the output's name. */
  emit(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, AttributeInit>>): string;
  /** Emits a node with several outputs. */
  emitMany(
    op: string,
    inputs: readonly string[],
    options: { outputs: number; attributes?: Readonly<Record<string, AttributeInit>> },
  ): readonly string[];
  /** Adds an initializer and returns its name; equal small constants are shared. */
  constant(tensor: Tensor, hint?: string): string;
  /** A float32 scalar constant. */
  scalar(value: number): string;
  /** An int64 vector constant, for shapes and axes. */
  ints(values: readonly number[]): string;
  input(info: { name: string; dtype: DType; shape: readonly number[] }): string;
  output(name: string, as?: string): void;
  static(name: string): Static;
  shape(name: string): readonly number[];
  /** The constant behind a name, if it is one. */
  constantOf(name: string): Tensor | undefined;
  finish(): TracedGraph;
};
