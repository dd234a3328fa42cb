import { padding } from "../infer/shape.ts";
import { type Ops, range } from "../ops.ts";
import { placed } from "./indexing.ts";
import { type Adjoint, type GradientRule, once } from "./rule.ts";

type Edges = readonly (readonly [before: number, after: number])[];

/** What was added came from the value or, in the other modes, from places inside; what was cut gets zeros. */
export const Pad: GradientRule = (site, ops) => {
  const edges = once(() => padding(site));
  const mode = site.string("mode", "constant");
  if (mode !== "constant") return [() => folded(site, ops, { edges: edges(), mode })];
  return [() => cropped(ops, site.dy, edges()), undefined, () => outside(site, ops, edges())];
};

/** The part of dy that was there before, with zeros where negative pads cut. */
function cropped(ops: Ops, dy: string, edges: Edges): string {
  const lost = edges.map(([before, after]) => [Math.max(-before, 0), Math.max(-after, 0)] as const);
  return ops.pad(core(ops, dy, edges), {
    before: lost.map(([before]) => before),
    after: lost.map(([, after]) => after),
  });
}

function core(ops: Ops, dy: string, edges: Edges): string {
  return edges.reduce((x, [before, after], axis) => {
    const [start, end] = [Math.max(before, 0), ops.shape(x)[axis]! - Math.max(after, 0)];
    return start === 0 && end === ops.shape(x)[axis]! ? x : part(ops, x, { axis, start, end });
  }, dy);
}

function part(ops: Ops, x: string, { axis, start, end }: { axis: number; start: number; end: number }) {
  return ops.slice(x, { axes: [axis], starts: [start], ends: [end] });
}

/** The padding value's gradient: the sum of what arrives outside, slab by slab, each within the last. */
function outside(site: Adjoint, ops: Ops, edges: Edges): string {
  const slabs: string[] = [];
  let rest = site.dy;
  for (const [axis, [before, after]] of edges.entries()) {
    const size = ops.shape(rest)[axis]!;
    if (before > 0) slabs.push(part(ops, rest, { axis, start: 0, end: before }));
    if (after > 0) slabs.push(part(ops, rest, { axis, start: size - after, end: size }));
    rest = core(
      ops,
      rest,
      edges.map((edge, i) => (i === axis ? edge : [0, 0])),
    );
  }
  const sums = slabs.map((slab) => ops.sum(slab, range(edges.length)));
  const total = sums.length === 0 ? ops.number(0, site.dy) : sums.reduce(ops.add);
  return ops.reshape(total, site.shape(2));
}

/** Axis by axis, for every position of the padded axis the one inside that it repeats. */
function folded(site: Adjoint, ops: Ops, { edges, mode }: { edges: Edges; mode: string }): string {
  const inside = INSIDE[mode];
  if (!inside) throw site.fault("unsupported", `mode ${mode}`, { expected: Object.keys(INSIDE).join(", ") });
  return edges.reduce((dy, [before, after], axis) => {
    if (before === 0 && after === 0) return dy;
    const size = site.shape(0)[axis]!;
    const home = range(size + before + after).map((at) => inside(at - before, size));
    return chunks(home)
      .map(({ start, picked }) => {
        const slab = part(ops, dy, { axis, start, end: start + picked.length });
        return placed(ops, slab, { axis, size, picked });
      })
      .reduce(ops.add);
  }, site.dy);
}

/** Modes as numpy.pad has them; reflection goes to and fro where pads are wider than the input. */
const INSIDE: Readonly<Record<string, (at: number, size: number) => number>> = {
  edge: (at, size) => Math.min(size - 1, Math.max(0, at)),
  reflect: (at, size) => {
    const period = Math.max(1, 2 * (size - 1));
    const folded = ((at % period) + period) % period;
    return folded < size ? folded : period - folded;
  },
  wrap: (at, size) => ((at % size) + size) % size,
};

type Chunk = { readonly start: number; readonly picked: readonly number[] };

/** The longest runs without a repeat, one after another: few, since most positions stand for themselves. */
function chunks(home: readonly number[]): readonly Chunk[] {
  const found: { start: number; picked: number[] }[] = [];
  for (const [at, place] of home.entries()) {
    const last = found.at(-1);
    if (!last || last.picked.includes(place)) found.push({ start: at, picked: [place] });
    else last.picked.push(place);
  }
  return found;
}
