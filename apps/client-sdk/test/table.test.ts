import { seededRandom } from "@tutti/foundation/random";
import { float32 } from "@tutti/graph/ir";
import { int64, numbers } from "@tutti/graph/tensor";
import type { Plan } from "@tutti/plan/plan";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCsv } from "../src/csv.ts";
import { examplesFromArrays, splitExamples } from "../src/examples.ts";
import { splitTable, type TableOptions } from "../src/table.ts";

describe("CSV, RFC 4180", () => {
  test("quoted cells, doubled quotes, CRLF, byte-order mark, blank lines", () => {
    const text = '\uFEFFa,b\r\n"x, y","he said ""hi"""\r\n\r\n1,\r\n"two\nlines",3';
    expect(parseCsv(text)).toEqual({
      columns: ["a", "b"],
      rows: [
        ["x, y", 'he said "hi"'],
        ["1", ""],
        ["two\nlines", "3"],
      ],
    });
  });

  test("what is written is what is read", () => {
    const cell = fc.stringMatching(/^[a-z",\n ]{0,6}$/);
    const quote = (value: string) => `"${value.replaceAll('"', '""')}"`;
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell), { maxLength: 8 }), fc.boolean(), (rows, crlf) => {
        const lines = [["left", "right"], ...rows].map((row) => row.map(quote).join(","));
        const { rows: got } = parseCsv(lines.join(crlf ? "\r\n" : "\n"));
        expect(got).toEqual(rows.map(([a, b]) => [a, b]));
      }),
    );
  });

  test("refusals name the record", () => {
    expect(() => parseCsv("")).toThrow(/header line/);
    expect(() => parseCsv("a,a\n1,2")).toThrow(/distinct columns, got two of a/);
    expect(() => parseCsv("a,b\n1,2\n3")).toThrow(/CSV: expected 2 cells, got 1 in record 2/);
    expect(() => parseCsv('a,b\n1,x"y')).toThrow(/expected a cell in record 1, got/);
    expect(() => parseCsv('a\n"open')).toThrow(/record 1/);
  });
});

const data: NonNullable<Plan["data"]> = {
  columns: ["u", "v"],
  label: "kind",
  classes: ["no", "yes"],
  normalise: "none",
};
const loss: Plan["loss"] = "softmax-cross-entropy";
const options = (change: Partial<TableOptions> = {}): TableOptions => {
  return { data, loss, holdout: 0, random: seededRandom(1), inputName: "x", ...change };
};
const all = async (examples: { count: number; take: ReturnType<typeof examplesFromArrays>["take"] }) => {
  const taken = await examples.take(Array.from({ length: examples.count }, (_, row) => row));
  return {
    x: numbers(taken.get("x")!),
    label: numbers(taken.get("label")!),
    dtype: taken.get("label")!.dtype,
  };
};

describe("a table as examples", () => {
  test("rows with a missing, unreadable or unknown value are dropped and counted", () => {
    const table = parseCsv("u,v,kind\n1,2,yes\n,2,yes\nNaN,2,no\n1,x,no\n1,Infinity,no\n3,4,maybe\n5,6,no");
    const rows = splitTable(table, options());
    expect([rows.dropped, rows.train.count, rows.heldOut.count]).toEqual([5, 2, 0]);
  });

  test("columns in the plan's order, labels as class indices", async () => {
    const table = parseCsv("kind,v,u\nyes,2,1\nno,4,3");
    const { train } = splitTable(
      table,
      options({ random: { ...seededRandom(1), shuffle: (rows) => [...rows] } }),
    );
    expect(await all(train)).toEqual({ x: [1, 2, 3, 4], label: [1, 0], dtype: "int64" });
  });

  test("the split column decides; normalise uses the training rows alone, ddof 1", async () => {
    const split = { column: "part", train: "fit", test: "try" };
    const table = parseCsv("u,v,kind,part\n1,7,yes,fit\n3,7,no,fit\n100,8,no,try\n5,5,no,other");
    const rows = splitTable(table, options({ data: { ...data, split, normalise: "site" } }));
    const near = (values: readonly number[]) => values.map((value) => Math.round(value * 1e4) / 1e4);
    // mean 2, std √2; the constant column becomes value − mean.
    expect(near((await all(rows.train)).x)).toEqual([
      -near([Math.SQRT1_2])[0]!,
      0,
      near([Math.SQRT1_2])[0]!,
      0,
    ]);
    expect(near((await all(rows.heldOut)).x)).toEqual([69.2965, 1]);
  });

  test("a numeric target is float32 [rows, 1]", async () => {
    const { classes: _, ...numeric } = data;
    const table = parseCsv("u,v,kind\n1,2,0.5");
    const { train } = splitTable(table, options({ data: numeric, loss: "mean-squared-error" }));
    expect((await train.take([0])).get("label")).toEqual(float32([1, 1], Float32Array.of(0.5)));
    expect(() => splitTable(table, options({ data: numeric }))).toThrow(/data.classes/);
  });

  test("nothing to train on, and columns that are not there, by name", () => {
    expect(() => splitTable(parseCsv("u,v,kind\n1,,yes"), options())).toThrow(/1 rows, 1 of them unusable/);
    expect(() => splitTable(parseCsv("u,w,kind\n1,2,yes"), options())).toThrow(
      /column v: expected one of.*u, w, kind/,
    );
  });
});

describe("examples", () => {
  const many = examplesFromArrays({
    inputs: {
      x: float32(
        [10, 1],
        Float32Array.from({ length: 10 }, (_, row) => row),
      ),
    },
    label: int64(Array.from({ length: 10 }, (_, row) => row * 10)),
  });

  test("take copies the rows asked for, repeats included", async () => {
    const taken = await many.take([3, 3, 0]);
    expect(numbers(taken.get("x")!)).toEqual([3, 3, 0]);
    expect(numbers(taken.get("label")!)).toEqual([30, 30, 0]);
  });

  test("a split is a partition, and the same seed splits the same way", async () => {
    const parts = async (seed: string) => {
      const { train, heldOut } = splitExamples(many, 0.3, seededRandom(seed));
      return { train: (await all(train)).x, heldOut: (await all(heldOut)).x };
    };
    const once = await parts("a");
    expect(once.heldOut).toHaveLength(3);
    expect([...once.train, ...once.heldOut].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await parts("a")).toEqual(once);
    expect(await parts("b")).not.toEqual(once);
  });

  test("tensors whose rows do not match the label's are refused", () => {
    const inputs = { x: float32([2, 1], new Float32Array(2)) };
    expect(() => examplesFromArrays({ inputs, label: int64([1]) })).toThrow(/examples, x: expected 1 rows/);
  });
});
