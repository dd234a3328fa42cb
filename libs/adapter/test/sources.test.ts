import { describe, expect, test } from "vitest";
import { type Attribute, float32, type Graph, type Node } from "../../graph/src/ir.ts";
import { Sources } from "../src/find/sources.ts";
import { wiresOf } from "../src/find/wires.ts";
import { node } from "./bases.ts";

const info = (name: string) => ({ name, dtype: "float32" as const, shape: null });

/** An operator with a graph inside that reads `outer` and defines `inner` itself. */
function branching(outer: string): Node {
  const nodes = [node("Neg", [outer], "inner"), node("Abs", ["inner"], "z")];
  const graph = { name: "then", opset: 17, inputs: [], outputs: [info("z")], initializers: new Map(), nodes };
  const value: Attribute = { kind: "graph", value: graph };
  return { ...node("If", ["", "cond"], "branch"), attributes: new Map([["then_branch", value]]) };
}

function graphOf(nodes: readonly Node[], outputs: readonly string[]): Graph {
  const weight = float32([2, 2], new Float32Array(4));
  const initializers = new Map([["w", weight]]);
  return { name: "g", opset: 17, inputs: [info("x")], outputs: outputs.map(info), initializers, nodes };
}

describe("who reads a stored tensor in the end", () => {
  test("are nodes by input, through what passes it on, graphs inside nodes, and outputs", () => {
    const nodes = [
      node("Transpose", ["w"], "turned"),
      node("MatMul", ["x", "turned"], "y"),
      node("Add", ["w", "w"], "twice"),
      branching("w"),
    ];
    const readers = new Sources(graphOf(nodes, ["y", "w"])).finalReaders("w");
    expect([...readers].sort()).toEqual(["graph output", "inner graph", "twice#0", "twice#1", "y#1"]);
  });

  test("what an inner graph defines itself is no value of the outer one", () => {
    expect(new Sources(graphOf([branching("x")], ["branch"])).finalReaders("inner")).toEqual([]);
  });
});

describe("the only follower of a value", () => {
  const follower = (nodes: readonly Node[], outputs: readonly string[]) =>
    wiresOf(graphOf([node("Relu", ["x"], "h"), ...nodes], outputs)).follower("h")?.outputs[0];

  test("is the node that alone reads it, once", () => {
    expect(follower([node("Neg", ["h"], "y")], ["y"])).toBe("y");
    expect(follower([node("Add", ["h", "h"], "y")], ["y"])).toBeUndefined();
  });

  test("is none where a graph inside a node, or the graph's output, reads it too", () => {
    expect(follower([node("Neg", ["h"], "y"), branching("h")], ["y"])).toBeUndefined();
    expect(follower([branching("h")], ["branch"])).toBeUndefined();
    expect(follower([node("Neg", ["h"], "y")], ["y", "h"])).toBeUndefined();
  });
});
