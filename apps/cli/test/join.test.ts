import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText, parseJoinFile } from "@tutti/identity/join";
import { afterAll, beforeAll, expect, test } from "vitest";

const random = platformRandom();
const TUTTI = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));
let home: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-cli-"));
  const folder = join(home, "federation");
  await initFederation({ folder, name: "test", host: "127.0.0.1", port: 1, random, nowMs: Date.now() });
  server = await serveFederation({ folder, port: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

/** Whether `tutti join` says that it joined; it is interrupted then. */
async function joined(file: string, folder: string): Promise<boolean> {
  const child = spawn(process.execPath, [TUTTI, "join", file, "--folder", folder, "--data", home]);
  let said = false;
  child.stdout.on("data", (chunk: Buffer) => {
    said ||= chunk.includes("has joined");
    if (said) child.kill("SIGINT");
  });
  await new Promise((resolve) => child.on("close", resolve));
  return said;
}

test("joining takes the secret out of the join file, also when the time before it was cut", {
  timeout: 60_000,
}, async () => {
  const options = { folder: join(home, "federation"), name: "ward", days: 1, random, nowMs: Date.now() };
  const text = joinFileText({ ...(await createToken(options)), address: server.address });
  const file = join(home, "ward.join.json");
  const folder = join(home, "site");
  await mkdir(folder);
  const secret = async () => parseJoinFile(await readFile(file, "utf8")).token.secret;
  // Twice: the second time as if the process had been killed between joining and taking it out.
  for (const _ of [1, 2]) {
    await writeFile(file, text);
    expect(await secret()).toHaveLength(32);
    expect(await joined(file, folder)).toBe(true);
    expect(await secret()).toBeNull();
  }
  expect(await joined(file, join(home, "elsewhere"))).toBe(false);
});
