import { Fault } from "@tutti/foundation/fault";
import type { Dimension, Static, ValueInfo } from "./ir.ts";

/** Sizes for what a file leaves open: whole shapes by input name, or sizes by dimension name. */
export type Bind = {
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly symbols?: Readonly<Record<string, number>>;
};

/** Inputs with every dimension a number. A dimension name means one size wherever it stands. */
export function bindInputs(
  inputs: readonly ValueInfo[],
  { shapes = {}, symbols = {} }: Bind,
): readonly (ValueInfo & Static)[] {
  const sizes = new Map(Object.entries(symbols));
  // Given shapes first: they tell the size of named dimensions that other inputs share.
  const given = new Map(Object.entries(shapes));
  for (const name of given.keys()) {
    if (!inputs.some((input) => input.name === name))
      throw new Fault(
        "bad-input",
        `no input ${name}; the model has ${inputs.map((i) => i.name).join(", ") || "none"}`,
      );
  }
  for (const input of inputs) learn(input, given.get(input.name), sizes);
  return inputs.map((input) => {
    const open = given.get(input.name) ?? input.shape;
    if (open === null) throw missing(input, "its shape");
    return { ...input, shape: open.map((dimension, axis) => size(input, { dimension, axis, sizes })) };
  });
}

/** Checks a given shape against the file's and notes what it says of named dimensions. */
function learn(input: ValueInfo, given: readonly number[] | undefined, sizes: Map<string, number>): void {
  if (!given || !input.shape) return;
  const fits = given.length === input.shape.length;
  const clash = input.shape.some((own, axis) => {
    // A size the file fixes may be asked for differently; whether the nodes bear it, inference will say.
    if (typeof own !== "string" || given[axis] === undefined) return false;
    const held = sizes.get(own) ?? given[axis];
    sizes.set(own, held);
    return held !== given[axis];
  });
  if (!fits || clash) {
    const expected = `[${input.shape.map((own) => own ?? "?")}]`;
    throw new Fault("bad-input", `shape of input ${input.name}`, { expected, got: `[${given}]` });
  }
}

function size(
  input: ValueInfo,
  { dimension, axis, sizes }: { dimension: Dimension; axis: number; sizes: ReadonlyMap<string, number> },
): number {
  const found = typeof dimension === "string" ? sizes.get(dimension) : dimension;
  if (found === undefined || found === null) throw missing(input, `dimension ${dimension ?? axis}`);
  if (Number.isSafeInteger(found) && found >= 0) return found;
  throw new Fault("bad-input", `input ${input.name}: dimension ${axis}`, {
    expected: "a size",
    got: `${found}`,
  });
}

function missing(input: ValueInfo, what: string): Fault {
  const todo = `Bind it: { shapes: { ${JSON.stringify(input.name)}: [...] } }`;
  return new Fault("bad-input", `input ${input.name}`, { expected: `a size for ${what}`, got: "none", todo });
}
