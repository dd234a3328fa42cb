import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { bundle } from "../../claims/support/bundle.ts";
import { ROOT } from "../tidy/sources.ts";
import { type Found, findOut } from "./page.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);
/** No sandbox: the page is our own, and Chromium has no sandbox to offer to root in a container. */
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
/** The page is a file, and so is its worker. */
const FILES = "--allow-file-access-from-files";
if (!CHROMIUM)
  console.log("browser test skipped: no Chromium in /usr/bin (Debian: apt-get install chromium)");

describe("in Node", () => {
  test("the page's own work: the session opens to the plain sum", async () => {
    const { sum, plain, logits } = await findOut();
    expect(sum).toEqual(plain);
    expect(logits).toHaveLength(15);
  });
});

describe.skipIf(!CHROMIUM)("in Chromium", () => {
  test("a secure session, a forward pass, the kernels also in a worker, from Vite's bundle", async () => {
    const [here, there] = [await findOut(), await inChromium()];
    expect(there.sum).toEqual(there.plain);
    expect(there.plain).toEqual(here.plain);
    expect(there.logits).toEqual(here.logits);
    expect(here.kernels.compiled).toBe(true);
    expect(there.kernels).toEqual(here.kernels);
    expect(there.inWorker).toEqual(here.kernels);
  });
});

/** Opens the bundled page and reads what it had written when it was done. */
async function inChromium(): Promise<Found> {
  const page = join(ROOT, "test/browser/page.ts");
  const { code, builtins } = await bundle(`export * from ${JSON.stringify(page)};`, {
    root: ROOT,
    name: "page",
  });
  expect(builtins).toEqual([]);
  const folder = await mkdtemp(join(tmpdir(), "tutti-browser-"));
  try {
    await writeFile(join(folder, "page.js"), code);
    await writeFile(join(folder, "worker.js"), WORKER);
    await writeFile(join(folder, "index.html"), HTML);
    const where = [`--user-data-dir=${join(folder, "profile")}`, `file://${join(folder, "index.html")}`];
    // Virtual time stands still while work is pending, so the page is dumped when it is done, however long.
    const args = [...FLAGS, FILES, "--virtual-time-budget=60000", "--dump-dom", ...where];
    const { stdout } = await promisify(execFile)(CHROMIUM!, args, { timeout: 50_000, maxBuffer: 1 << 24 });
    const written = /<pre>([^<]*)<\/pre>/.exec(stdout)?.[1];
    if (!written?.startsWith("{")) throw new Error(`the page wrote ${written ?? stdout.slice(0, 500)}`);
    return JSON.parse(written) as Found;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const WORKER = 'importScripts("page.js"); postMessage(page.kernelWork());';
const HTML = `<!doctype html><meta charset="utf-8"><pre></pre><script src="page.js"></script><script>
const write = (text) => (document.querySelector("pre").textContent = text);
const worker = new Worker("worker.js");
const inWorker = new Promise((resolve, reject) => {
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = ({ message }) => reject(new Error(message));
});
Promise.all([page.findOut(), inWorker]).then(
  ([found, inWorker]) => write(JSON.stringify({ ...found, inWorker })),
  (error) => write(String(error.stack)));
</script>`;
