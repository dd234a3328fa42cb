import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "./bundle.ts";

/** Null where there is none (Debian: apt-get install chromium). */
export const CHROMIUM =
  ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync) ?? null;
/** No sandbox: the page is our own, and Chromium has none to offer to root in a container. */
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];

/** What `call`, an expression over the module's exports as `page`, resolves to in headless Chromium. */
export async function inChromium<T>(module: string, call: string, root: string): Promise<T> {
  const { code, builtins } = await bundle(`export * from ${JSON.stringify(module)};`, { root, name: "page" });
  if (builtins.length > 0) throw new Error(`the page asks for ${builtins.join(", ")}`);
  const { server, answered } = serve(code, call);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const profile = await mkdtemp(join(tmpdir(), "tutti-claim-"));
  const chromium = spawn(CHROMIUM!, [...FLAGS, `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  const gone = new Promise<never>((_, fail) => {
    chromium.on("exit", (status) =>
      fail(new Error(`Chromium ended with ${status} before the page was done`)),
    );
  });
  try {
    return JSON.parse(await Promise.race([answered, gone])) as T;
  } finally {
    const ended = new Promise((done) => chromium.once("exit", done));
    gone.catch(() => {});
    chromium.kill();
    await ended;
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The page and its script; what it sends back is the answer. */
function serve(code: string, call: string): { server: Server; answered: Promise<string> } {
  let [answer, fail] = [(_: string) => {}, (_: Error) => {}];
  const answered = new Promise<string>((done, failed) => {
    [answer, fail] = [done, failed];
  });
  const html = `<!doctype html><meta charset="utf-8"><script src="/page.js"></script><script>
const send = (path, body) => fetch(path, { method: "POST", body });
const found = (value) => send("/found", JSON.stringify(value));
(async () => ${call})().then(found, (error) => send("/lost", String(error.stack)));
</script>`;
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    if (request.url === "/found") answer(text);
    if (request.url === "/lost") fail(new Error(`the page threw ${text}`));
    const script = request.url === "/page.js";
    response.setHeader("content-type", script ? "text/javascript" : "text/html");
    response.end(script ? code : html);
  });
  return { server, answered };
}
