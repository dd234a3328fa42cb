import { sizeOf } from "../../ir.ts";
import { stridesOf } from "../../tensor.ts";
import { choose, expandTo, filled, viaInt, WASM_RANK } from "./broadcast.ts";
import type { Operator, OpSite } from "./op-site.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

type Side = { before: number; after: number };

/** Pads by axis from attributes (before set 11) or inputs; negative ones cut cells off. */
export const Pad: Operator = (site, tf) => {
  const mode = site.string("mode", "constant");
  const sides = sidesOf(site);
  const out = site.shapeOut();
  site.skip(1, 3);
  if (sizeOf(out) === 0) return () => tf.zeros(out, site.typeOut());
  if (mode === "constant") return constant(site, tf, sides);
  if (mode !== "reflect" && mode !== "edge" && mode !== "wrap")
    throw site.fault("unsupported", "attribute mode", {
      expected: "constant, reflect, edge or wrap",
      got: mode,
    });
  const picks = sides.flatMap(({ before, after }, axis) => {
    if (before === 0 && after === 0) return [];
    const size = site.shape(0)[axis]!;
    const at = Array.from({ length: out[axis]! }, (_, index) => source(mode, index - before, size));
    return [{ axis, at: site.keep(tf.tensor1d(at, "int32")) }];
  });
  return (x) => picks.reduce((rest, { axis, at }) => tf.gather(rest, at as never, axis), x);
};

function sidesOf(site: OpSite): Side[] {
  const rank = site.rank(0);
  const pads = site.opset < 11 ? site.ints("pads") : site.numbers(1);
  const axes = site.has(3) ? site.numbers(3) : site.shape(0).map((_, axis) => axis);
  const sides = site.shape(0).map(() => ({ before: 0, after: 0 }));
  for (const [index, axis] of axes.entries()) {
    sides[site.axis(axis, rank)] = { before: pads[index]!, after: pads[index + axes.length]! };
  }
  return sides;
}

/** Which cell of the axis stands at `at`, counted from its first cell. */
function source(mode: "reflect" | "edge" | "wrap", at: number, size: number): number {
  if (mode === "edge") return Math.min(Math.max(at, 0), size - 1);
  if (mode === "wrap") return ((at % size) + size) % size;
  const period = Math.max(1, 2 * (size - 1));
  const inside = ((at % period) + period) % period;
  return inside < size ? inside : period - inside;
}

function constant(site: OpSite, tf: Tf, sides: readonly Side[]) {
  if (site.has(2) && !site.constant(2)) return constantFed(site, tf, sides);
  const value = padValue(site);
  site.skip(2);
  return padding(site, tf, { sides, value });
}

function padding(site: OpSite, tf: Tf, { sides, value }: { sides: readonly Side[]; value: number }) {
  const out = site.shapeOut();
  const { from, to } = merged(site, sides);
  const grows = to.some(([before, after]) => before + after > 0);
  const cuts = sides.some(({ before, after }) => before < 0 || after < 0);
  const grown = site
    .shape(0)
    .map((size, axis) => size + more(sides[axis]!.before) + more(sides[axis]!.after));
  const begin = sides.map(({ before }) => more(-before));
  const type = site.typeOut();
  if (sizeOf(site.shape(0)) === 0) return () => filled(tf, out, { value, type });
  const pad = (x: TfTensor) => tf.reshape(tf.pad(tf.reshape(x, from), to, value), grown);
  return (x: TfTensor): TfTensor => {
    const padded = grows ? viaInt(tf, x, pad) : x;
    return cuts ? tf.slice(padded, begin, out) : padded;
  };
}

/** With a value that is computed: zeros, then the value wherever there is no cell of the input. */
function constantFed(site: OpSite, tf: Tf, sides: readonly Side[]) {
  const out = site.shapeOut();
  const strides = stridesOf(out);
  const given = Uint8Array.from({ length: sizeOf(out) }, (_, at) =>
    out.every((size, axis) => {
      const cell = (Math.floor(at / strides[axis]!) % size) - sides[axis]!.before;
      return cell >= 0 && cell < site.shape(0)[axis]!;
    })
      ? 1
      : 0,
  );
  const inside = site.keep(tf.tensor(given, out, "bool"));
  const zeros = padding(site, tf, { sides, value: 0 });
  return (x: TfTensor, _pads: TfTensor, value: TfTensor): TfTensor => {
    const wide = expandTo(tf, tf.reshape(value, []), out);
    return choose(tf, inside, [zeros(x), wide]);
  };
}

const more = (count: number): number => Math.max(0, count);

/** Neighbouring axes that stay as they are become one, since wasm pads up to rank 6. */
function merged(site: OpSite, sides: readonly Side[]) {
  const from: number[] = [];
  const to: [number, number][] = [];
  for (const [axis, size] of site.shape(0).entries()) {
    const pads: [number, number] = [more(sides[axis]!.before), more(sides[axis]!.after)];
    const last = to.at(-1);
    if (last && last[0] + last[1] + pads[0] + pads[1] === 0) from[from.length - 1]! *= size;
    else {
      from.push(size);
      to.push(pads);
    }
  }
  if (from.length <= WASM_RANK) return { from, to };
  throw site.fault("unsupported", "pads", { expected: `${WASM_RANK} axes at most`, got: `${from.length}` });
}

function padValue(site: OpSite): number {
  if (site.opset < 11) return site.float("value", 0);
  return site.has(2) ? (site.numbers(2)[0] ?? 0) : 0;
}
