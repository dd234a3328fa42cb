import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@tutti/foundation/random";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import { create, encode } from "@tutti/wire/message";
import { ModelProtoSchema, TensorProto_DataLocation } from "@tutti/wire/onnx";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { readRegular } from "../src/files.ts";
import { openModel } from "../src/model-file.ts";
import { readOrSay } from "../src/prepare.ts";
import { modelFiles, writeAll } from "../src/write.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-files-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

let folder: string;
const at = (...path: string[]) => join(folder, ...path);
const text = (name: string) => readFileSync(at(name), "utf8");
beforeEach(() => {
  folder = mkdtempSync(join(home, "case-"));
});

const pipes = spawnSync("mkfifo", [join(home, "probe")]).status === 0;

/** A model whose first weight lies in `location`. */
function outside(location: string, length?: number): void {
  const { proto } = read(write(mlp({ inputs: 6, hidden: [8], outputs: 4, random: seededRandom(1) })));
  const tensor = proto.graph!.initializer.find(({ rawData }) => rawData.length > 0)!;
  const entries = { location, ...(length !== undefined && { length: `${length}` }) };
  tensor.externalData = Object.entries(entries).map(([key, value]) => {
    return { $typeName: "onnx.StringStringEntryProto" as const, key, value };
  });
  tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
  const { rawData } = tensor;
  tensor.rawData = new Uint8Array();
  writeFileSync(at("m.onnx"), encode(ModelProtoSchema, create(ModelProtoSchema, proto)));
  if (location.endsWith(".bin")) writeFileSync(at(location), rawData);
}

describe("reading", () => {
  test("a folder is refused, as a model and as its weights", async () => {
    mkdirSync(at("sub"));
    outside("sub");
    const refused = { code: "refused", message: expect.stringMatching(/sub: .*got a folder/) };
    await expect(openModel(at("m.onnx"))).rejects.toMatchObject(refused);
    await expect(openModel(at("sub"))).rejects.toMatchObject(refused);
    await expect(readOrSay(at("sub"), "run file")).rejects.toMatchObject(refused);
  });

  // A read that waits for the pipe would hang here, timers and all.
  test.skipIf(!pipes)("a pipe is refused, as a model and as its weights, and not waited for", async () => {
    spawnSync("mkfifo", [at("pipe")]);
    outside("pipe");
    const refused = { code: "refused", message: expect.stringMatching(/pipe: .*got a pipe/) };
    await expect(openModel(at("m.onnx"))).rejects.toMatchObject(refused);
    await expect(openModel(at("pipe"))).rejects.toMatchObject(refused);
  });

  test("a file shorter than the model says is refused unread", async () => {
    outside("w.bin", 10_000);
    const short = /w\.bin: expected a readable file, got \d+ of at least 10000 bytes/;
    await expect(openModel(at("m.onnx"))).rejects.toThrow(short);
  });

  test("what is not there is not found, whatever its name", () => {
    for (const name of ["gone", "gone/further", "n".repeat(300), "nul\0"])
      expect(() => readRegular(at(name), { what: "it" }), name).toThrow(
        expect.objectContaining({ code: "not-found" }),
      );
  });
});

describe("writing", () => {
  test("a model named as one of its weight files is refused, however it is spelt", async () => {
    outside("w.bin");
    const base = await openModel(at("m.onnx"));
    for (const out of ["o/w.bin", "o/./w.bin", "o/../o/w.bin"])
      expect(() => modelFiles(`${folder}/${out}`, base.bytes, { base }), out).toThrow(/got two of that path/);
    expect(readdirSync(folder).sort()).toEqual(["m.onnx", "w.bin"]);
  });

  test("two files of one path are refused, also through a linked folder; nothing is written", async () => {
    mkdirSync(at("real"));
    symlinkSync(at("real"), at("linked"));
    const twice = { code: "conflict", message: expect.stringMatching(/two of that path/) };
    for (const other of [at("linked", "a"), `${at("real")}/./a`]) {
      const files = [[at("real", "a"), "1"] as const, [other, "2"] as const];
      await expect(writeAll(files)).rejects.toMatchObject(twice);
    }
    expect(readdirSync(at("real"))).toEqual([]);
  });

  test("a folder in a file's place: nothing changes, forced or not", async () => {
    mkdirSync(at("b"));
    writeFileSync(at("a"), "old");
    const files = new Map([
      [at("a"), "new"],
      [at("b"), "new"],
    ]);
    await expect(writeAll(files, { force: true })).rejects.toMatchObject({ code: "conflict" });
    expect([text("a"), readdirSync(folder)]).toEqual(["old", ["a", "b"]]);
  });

  /** Content that, while it is written, lets something happen that nobody looks for any more. */
  const meanwhile = (happens: () => void) =>
    (async function* () {
      happens();
      yield "new";
    })() as never;

  test("where a later file cannot be placed, the earlier ones are put back", async () => {
    writeFileSync(at("a"), "old");
    const files = [
      [at("a"), "new"],
      [at("c"), "new"],
      [at("b"), meanwhile(() => mkdirSync(at("b")))],
    ] as const;
    await expect(writeAll(files, { force: true })).rejects.toMatchObject({ code: "conflict" });
    expect([text("a"), readdirSync(folder).sort()]).toEqual(["old", ["a", "b"]]);
  });

  test("a file that came since we looked is not replaced, unless forced", async () => {
    const files = () => [
      [at("a"), "new"] as const,
      [at("b"), meanwhile(() => writeFileSync(at("b"), "theirs"))] as const,
    ];
    await expect(writeAll(files())).rejects.toMatchObject({ code: "conflict" });
    expect([text("b"), readdirSync(folder)]).toEqual(["theirs", ["b"]]);
    await writeAll(files(), { force: true });
    expect([text("a"), text("b"), readdirSync(folder).sort()]).toEqual(["new", "new", ["a", "b"]]);
  });
});
