import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { writeTensors } from "@tutti/adapter/formats/safetensors";
import { resolve } from "@tutti/adapter/resolve";
import { seededRandom } from "@tutti/foundation/random";
import { sizeOf } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { read } from "@tutti/graph/read";
import { write } from "@tutti/graph/write";
import { afterAll, expect, test } from "vitest";

const home = mkdtempSync(join(tmpdir(), "tutti-lazy-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** When the process ends, writes which engines it has loaded: tfjs leaves a global, onnxruntime a library. */
const watch = join(home, "watch.mjs");
writeFileSync(
  watch,
  `import { writeFileSync } from "node:fs";
  process.on("exit", () => {
    const libraries = process.report.getReport().sharedObjects;
    const found = [
      ...(libraries.some((file) => file.includes("onnxruntime")) ? ["onnxruntime"] : []),
      ...(globalThis._tfengine || libraries.some((file) => file.includes("tensorflow")) ? ["tfjs"] : []),
    ];
    writeFileSync(process.env.LOADED, found.join());
  });`,
);

function run(args: readonly string[]): { said: string; loaded: string } {
  const loaded = join(home, "loaded");
  const env = { ...process.env, LOADED: loaded };
  const options = { env, encoding: "utf8", cwd: fileURLToPath(new URL("..", import.meta.url)) } as const;
  const said = execFileSync(process.execPath, ["--import", pathToFileURL(watch).href, ...args], options);
  return { said, loaded: readFileSync(loaded, "utf8") };
}

const TUTTI = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));

test("the watch sees engines: both, where a process makes both", { timeout: 60_000 }, () => {
  const script = `const { nodeEngine } = await import("@tutti/client-sdk/node/engine");
    await nodeEngine("auto");`;
  const { loaded } = run(["--import", "tsx", "--input-type=module", "-e", script]);
  expect(loaded).toBe("onnxruntime,tfjs");
});

test("help loads no engine", { timeout: 60_000 }, () => {
  const { said, loaded } = run([TUTTI, "--help"]);
  expect(said).toContain("adapter");
  expect(loaded).toBe("");
});

test("looking at an adapter beside its base loads no engine", { timeout: 60_000 }, () => {
  const bytes = write(mlp({ inputs: 3, hidden: [4], outputs: 2, random: seededRandom(1) }));
  const adapter = resolve(read(bytes), { rank: 2, alpha: 2, targets: "all-linear" });
  const zeros = adapter.tensors.map(({ name, shape }) => [name, new Float32Array(sizeOf(shape))] as const);
  const [base, file] = [join(home, "base.onnx"), join(home, "adapter.safetensors")];
  writeFileSync(base, bytes);
  writeFileSync(file, writeTensors(adapter.tensors, new Map(zeros)));
  const { said, loaded } = run([TUTTI, "adapter", "inspect", file, "--base", base, "--alpha", "2"]);
  expect(said).toContain("rank 2");
  expect(loaded).toBe("");
});
