import { describe, expect, test } from "vitest";
import { type Builder, builderOn } from "../../src/builder.ts";
import { differentiate } from "../../src/differentiate.ts";
import { float32 } from "../../src/ir.ts";
import { run64 } from "./twin.ts";

function float(b: Builder, name: string, shape: readonly number[] = [2]): string {
  return b.input({ name, dtype: "float32", shape });
}

function sum(b: Builder, x: string): string {
  return b.emit("ReduceSum", [x], { axes: b.shape(x).map((_, axis) => axis), keepdims: 0 });
}

const pair = (a: number, b: number) => float32([2], Float32Array.of(a, b));
const values = (tensor: { data: unknown } | undefined) => [...(tensor!.data as Float32Array)];

describe("what is built", () => {
  test("only what lies between the wanted values and the loss", () => {
    const b = builderOn();
    const [x, w] = [float(b, "x"), float(b, "w")];
    const before = b.emit("Tanh", [x]);
    const after = b.emit("Mul", [before, w]);
    b.output(b.emit("Exp", [after]), "beside");
    b.output(sum(b, after), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["w"] });
    // d Σ tanh(x)·w / dw needs neither a second Exp nor anything of tanh′.
    expect(graph.nodes.map((node) => node.op).toSorted()).toEqual(
      ["Exp", "Identity", "Identity", "Identity", "Mul", "Mul", "ReduceSum", "Tanh"].toSorted(),
    );
  });

  test("no more nodes than allowed: the node where it grew too large is named", () => {
    const b = builderOn();
    let y = float(b, "x");
    for (let i = 0; i < 20; i++) y = b.emit("Exp", [y]);
    b.output(sum(b, y), "loss");
    const graph = b.finish();
    const run = (nodes: number) => differentiate(graph, { loss: "loss", wrt: ["x"], nodes });
    expect(run(60).nodes.length).toBeGreaterThan(30);
    expect(() => run(30)).toThrow(/gradient of Exp .*at most 30 nodes/);
  });

  test("a value used several times gets the sum of its gradients", () => {
    const b = builderOn();
    const x = float(b, "x");
    b.output(sum(b, b.emit("Add", [b.emit("Mul", [x, x]), b.emit("Exp", [x])])), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
    expect(values(run64(graph, new Map([["x", pair(0, 3)]])).get("grad.x"))).toEqual([
      1,
      Math.fround(6 + Math.exp(3)),
    ]);
  });

  test("a value in the middle of the graph may be asked for, and the loss itself", () => {
    const b = builderOn();
    const middle = b.emit("Mul", [float(b, "x"), b.scalar(3)]);
    b.output(sum(b, b.emit("Mul", [middle, middle])), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: [middle, "loss"] });
    const results = run64(graph, new Map([["x", pair(1, 2)]]));
    expect(values(results.get(`grad.${middle}`))).toEqual([6, 12]);
    expect(values(results.get("grad.loss"))).toEqual([1]);
  });

  test("a value the loss does not depend on gets zeros of its shape", () => {
    const b = builderOn();
    const [x, other] = [float(b, "x"), float(b, "other", [2, 3])];
    b.output(b.emit("Neg", [other]), "beside");
    b.output(sum(b, x), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x", "other"] });
    const results = run64(
      graph,
      new Map([
        ["x", pair(1, 2)],
        ["other", float32([2, 3], new Float32Array(6))],
      ]),
    );
    expect(results.get("grad.other")!.shape).toEqual([2, 3]);
    expect(values(results.get("grad.other"))).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("integers, bools and steps carry no gradient", () => {
    const b = builderOn();
    const x = float(b, "x");
    const gate = b.emit("Cast", [b.emit("Greater", [x, b.scalar(0)])], { to: 1 });
    const rounded = b.emit("Floor", [x]);
    b.output(sum(b, b.emit("Add", [b.emit("Mul", [x, gate]), rounded])), "loss");
    const graph = differentiate(b.finish(), { loss: "loss", wrt: ["x"] });
    expect(values(run64(graph, new Map([["x", pair(-1, 2)]])).get("grad.x"))).toEqual([0, 1]);
  });

  test("the given graph stays as it was", () => {
    const b = builderOn();
    b.output(sum(b, b.emit("Exp", [float(b, "x")])), "loss");
    const graph = b.finish();
    const before = graph.nodes.length;
    differentiate(graph, { loss: "loss", wrt: ["x"] });
    expect(graph.nodes).toHaveLength(before);
    expect(graph.outputs.map(({ name }) => name)).toEqual(["loss"]);
  });
});

describe("refusals", () => {
  test("an operator without a rule, with its node and what depends on it", () => {
    const b = builderOn();
    const [x, w] = [float(b, "x"), float(b, "w")];
    b.output(sum(b, b.emit("Exp", [b.emit("Mul", [x, w])])), "loss");
    const known = b.finish();
    const nodes = known.nodes.map((node) => (node.op === "Exp" ? { ...node, op: "Mystery" } : node));
    const graph = { ...known, nodes };
    expect(() => differentiate(graph, { loss: "loss", wrt: ["w"] })).toThrow(
      /Mystery "exp_\d+" \(opset 17\).*cannot be differentiated.*got Mystery, which depends on w/,
    );
    // Beside the path, the same operator does not matter.
    expect(() => differentiate(graph, { loss: "loss", wrt: ["loss"] })).not.toThrow();
  });

  test("a loss of several elements, unknown names, integers", () => {
    const b = builderOn();
    const x = float(b, "x");
    b.output(b.emit("Neg", [x]), "many");
    b.input({ name: "ids", dtype: "int64", shape: [2] });
    b.output(sum(b, x), "loss");
    const graph = b.finish();
    expect(() => differentiate(graph, { loss: "many", wrt: ["x"] })).toThrow(
      /loss many: expected one element, got shape \[2\]/,
    );
    expect(() => differentiate(graph, { loss: "loss", wrt: ["y"] })).toThrow(
      /y: expected a float value.*no such value/,
    );
    expect(() => differentiate(graph, { loss: "loss", wrt: ["ids"] })).toThrow(
      /ids: expected a float value.*int64/,
    );
  });

  test("float16 on the way", () => {
    const b = builderOn();
    const half = b.emit("Cast", [float(b, "x")], { to: 10 });
    b.output(sum(b, b.emit("Cast", [half], { to: 1 })), "loss");
    expect(() => differentiate(b.finish(), { loss: "loss", wrt: ["x"] })).toThrow(
      /Cast.*expected float32, got float16/,
    );
  });
});
