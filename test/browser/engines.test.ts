import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { onnxruntimeEngine } from "@tutti/graph/engines/onnxruntime/engine";
import * as ort from "onnxruntime-node";
import { describe, expect, test } from "vitest";
import { bundle } from "../../claims/support/bundle.ts";
import { ROOT } from "../tidy/sources.ts";
import { type Answer, type Answers, answer, HALVES } from "./training.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);
/** Graphics by SwiftShader, on the processor: the same code as on a card, only slower. */
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"],
  ...["--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
  ...["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"],
];
/**
 * Of a gradient's largest element: the contract of all engines (libs/graph/src/ir.ts). No backend needs a
 * wider one: webgl and webgpu in 32 bits are as near as WebAssembly, below 1e-6 (decision 0017). WebGL in 16
 * bits is not measured with a wider one either, but refused, since small gradients are lost in it.
 */
const APART = 1e-4;
/**
 * onnxruntime-web 1.30 runs the step on webgpu, and whether its gradients are right hangs on how the graph is
 * laid out: they were off by 1.44 of their largest element, the loss right, until losses looked labels up,
 * and agree since. Wrong were nodes of the backward pass that read a value of the forward pass again. Small
 * graphs of the same operators were right, and none of the session options tried changed it. Seen on
 * SwiftShader; not tried on a card. `browserEngine` takes it only where an app names the provider, and `auto`
 * refuses it where its first step is wrong. Its distance is printed, not judged.
 */
const UNTRUSTED: ReadonlySet<string> = new Set(["onnxruntime/webgpu"]);
/** Each needs nothing that a Chromium may lack. */
const ALWAYS = ["tfjs/wasm", "tfjs/cpu", "onnxruntime/wasm"];

if (!CHROMIUM)
  console.log("engines in a browser: skipped, no Chromium in /usr/bin (Debian: apt-get install chromium)");

describe.skipIf(!CHROMIUM)("engines in Chromium", () => {
  test("a step's loss and gradients are onnxruntime-node's on each backend that starts", async () => {
    const wanted = valuesOf(await answer(onnxruntimeEngine(ort as never)));
    const { steps, choice } = await inChromium();
    const gaps = new Map<string, number>();
    for (const [name, told] of Object.entries(steps)) {
      if ("refused" in told) console.log(`${name} does not run here: ${told.refused}`);
      else gaps.set(name, gapOf(told.values, wanted));
    }
    console.log(`apart from onnxruntime-node, at most: ${JSON.stringify(Object.fromEntries(gaps))}`);
    expect([...gaps.keys()]).toEqual(expect.arrayContaining(ALWAYS));
    expect([...gaps.keys()].filter((name) => name.startsWith("browserEngine"))).toHaveLength(2);
    const judged = [...gaps].filter(([name]) => !UNTRUSTED.has(name));
    expect(judged.filter(([, gap]) => !(gap <= APART))).toEqual([]);
    console.log(`auto with onnxruntime on webgpu: ${JSON.stringify(choice)}`);
    // Ten times the contract is what auto allows.
    if (gaps.get("onnxruntime/webgpu")! > 10 * APART) {
      expect(choice.engine).toMatch(/^tfjs/);
      expect(choice.refused).toEqual([expect.stringMatching(/onnxruntime\/webgpu: .*apart/)]);
    }
    if (gaps.has("tfjs/webgl"))
      expect(steps[HALVES]).toEqual({ refused: expect.stringMatching(/tfjs\/webgl: .*in 32 bits/) });
  }, 300_000);
});

type Values = Readonly<Record<string, readonly number[]>>;

function valuesOf(told: Answer): Values {
  if ("refused" in told) throw new Error(told.refused);
  return told.values;
}

/** The largest difference of any output, of that output's largest element. */
function gapOf(got: Values, wanted: Values): number {
  expect(Object.keys(got).sort()).toEqual(Object.keys(wanted).sort());
  const gaps = Object.entries(wanted).map(([name, values]) => {
    const size = Math.max(1e-20, ...values.map(Math.abs));
    return Math.max(...values.map((value, at) => Math.abs(value - got[name]![at]!))) / size;
  });
  return Math.max(...gaps);
}

/** Opens the page and waits for what it sends back. */
async function inChromium(): Promise<Answers> {
  const page = join(ROOT, "test/browser/training.ts");
  const { code, builtins } = await bundle(`export * from ${JSON.stringify(page)};`, {
    root: ROOT,
    name: "page",
  });
  expect(builtins).toEqual([]);
  const profile = mkdtempSync(join(tmpdir(), "tutti-engines-"));
  const { server, answered } = serve(code);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const chromium = spawn(CHROMIUM!, [...FLAGS, `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  const gone = new Promise<never>((_, fail) => {
    chromium.on("exit", (code) => fail(new Error(`Chromium ended with ${code} before the page was done`)));
  });
  try {
    return await Promise.race([answered, gone]);
  } finally {
    const ended = new Promise((done) => chromium.once("exit", done));
    chromium.kill();
    await ended;
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

const FOLDERS: Readonly<Record<string, string>> = {
  ort: "node_modules/onnxruntime-web/dist",
  tfjs: "node_modules/@tensorflow/tfjs-backend-wasm/dist",
};

/** The page, the packages' own files, and a place to send results to. */
function serve(code: string): { server: Server; answered: Promise<Answers> } {
  let [answer, fail] = [(_: Answers) => {}, (_: Error) => {}];
  const answered = new Promise<Answers>((done, failed) => {
    [answer, fail] = [done, failed];
  });
  const server = createServer(async (request, response) => {
    if (request.method === "POST") {
      let text = "";
      for await (const chunk of request) text += chunk;
      response.end();
      if (text.startsWith("{")) answer(JSON.parse(text));
      else fail(new Error(`the page wrote ${text}`));
      return;
    }
    const [, folder = "", file = ""] = (request.url ?? "/").split("/");
    const type = Object.entries(TYPES).find(([ending]) => (file || folder).endsWith(ending))?.[1];
    response.setHeader("content-type", type ?? "text/html");
    const content = FOLDERS[folder]
      ? await readFile(join(ROOT, FOLDERS[folder], basename(file))).catch(() => undefined)
      : { "": HTML, "page.js": code }[folder];
    if (content === undefined) response.statusCode = 404;
    response.end(content);
  });
  return { server, answered };
}

const TYPES = { ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm" };

const HTML = `<!doctype html><meta charset="utf-8"><script src="/ort/ort.all.min.js"></script>
<script src="/page.js"></script><script>
const send = (body) => fetch("/answer", { method: "POST", body });
page.inPage(ort).then((found) => send(JSON.stringify(found)), (error) => send(String(error.stack)));
</script>`;
