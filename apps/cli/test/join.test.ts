import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
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

/** What `tutti join` says until it has joined, or for which reason it has not; it is interrupted then. */
async function joining(file: string, folder: string, data = home): Promise<string> {
  const child = spawn(process.execPath, [TUTTI, "join", file, "--folder", folder, "--data", data]);
  let said = "";
  const hear = (chunk: Buffer) => {
    said += chunk;
    if (/has joined.*\n/.test(said)) child.kill("SIGINT");
  };
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  await new Promise((resolve) => child.on("close", resolve));
  return said;
}

async function joined(file: string, folder: string): Promise<boolean> {
  return (await joining(file, folder)).includes("has joined");
}

test("a join file that is none is said before a data folder that is not there, and what is there instead", {
  timeout: 60_000,
}, async () => {
  const options = { folder: join(home, "federation"), name: "desk", days: 1, random, nowMs: Date.now() };
  const [broken, whole] = [join(home, "broken.join.json"), join(home, "desk.join.json")];
  await writeFile(broken, "{");
  await writeFile(whole, joinFileText({ ...(await createToken(options)), address: server.address }));
  const [folder, none] = [join(home, "desk"), join(home, "none")];
  expect(await joining(broken, folder, none)).toMatch(/^tutti: join file: /);
  const missing = "expected a folder, got nothing there. Name it with --data";
  expect(await joining(whole, folder, none)).toBe(`tutti: data folder ${none}: ${missing}\n`);
  expect(await joining(whole, folder, whole)).toContain("expected a folder, got something else.");
});

test("a folder that has joined goes on, and is not said to be new", { timeout: 60_000 }, async () => {
  const options = { folder: join(home, "federation"), name: "lab", days: 1, random, nowMs: Date.now() };
  const [file, folder] = [join(home, "lab.join.json"), join(home, "lab")];
  await writeFile(file, joinFileText({ ...(await createToken(options)), address: server.address }));
  const policy = `Its policy is ${folder}/policy.json`;
  expect(await joining(file, folder)).toContain(`lab has joined. ${policy}\n`);
  const again = await joining(file, folder);
  expect(again).toContain(`${folder}/ has joined before; lab goes on with its key. ${policy}\n`);
  expect(again).not.toContain("lab has joined");
});

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

test("a site whose coordinator is away says why once, however often it looks", {
  timeout: 60_000,
}, async () => {
  const options = { folder: join(home, "federation"), name: "bed", days: 1, random, nowMs: Date.now() };
  const file = join(home, "bed.join.json");
  const folder = join(home, "bed");
  await writeFile(file, joinFileText({ ...(await createToken(options)), address: server.address }));
  expect(await joined(file, folder)).toBe(true);
  // Somebody who hangs up each time, so that attempts can be counted.
  let calls = 0;
  let often = () => {};
  const enough = new Promise<void>((resolve) => {
    often = resolve;
  });
  const away = createServer((socket) => {
    socket.destroy();
    if (++calls === 6) often();
  });
  await new Promise<void>((resolve) => away.listen(0, "127.0.0.1", resolve));
  const config = join(folder, "device.json");
  const { port } = away.address() as { port: number };
  const written = JSON.parse(await readFile(config, "utf8"));
  await writeFile(config, JSON.stringify({ ...written, address: `127.0.0.1:${port}` }));
  const child = spawn(process.execPath, [TUTTI, "join", file, "--folder", folder, "--data", home]);
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  await enough;
  child.kill("SIGINT");
  await new Promise((resolve) => child.on("close", resolve));
  away.close();
  const lines = said.split("\n").filter((line) => line.startsWith("reconnecting"));
  expect(lines.length).toBeGreaterThan(0);
  expect(lines).toEqual([...new Set(lines)]);
});
