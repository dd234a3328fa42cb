import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { platformRandom } from "@tutti/foundation/random";
import { newKeyPair, selfKey } from "@tutti/secagg/keys";
import { type Lift, liftMasks } from "@tutti/secagg/server/lift";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../claims/support/free-port.ts";
import { bundle } from "../../tools/bundle.ts";
import { Supervisor } from "../stories/serving.ts";

/** `npm run build` into a folder of this test's own. That sites train with it too is a step of .ci/run. */

const ROOT = new URL("../../", import.meta.url);
const FOLDER = new URL(`node_modules/.cache/tutti/test-${process.pid}/`, ROOT);
const TUTTI = fileURLToPath(new URL("tutti.mjs", FOLDER));
const MAIN = new URL("apps/cli/src/main.ts", ROOT);
const UTF8 = { encoding: "utf8" } as const;
const supervisor = new Supervisor(TUTTI);
let home: string;
let federation: string;
/** Where the program and all that it loads are. */
let parts: URL;

const launcherOf = (folder: URL) => readFileSync(new URL("tutti.mjs", folder), "utf8");
const partsOf = (folder: URL) => new URL(`${/"\.\/(\w+)\//.exec(launcherOf(folder))?.[1]}/`, folder);
const tutti = (...words: string[]) => execFileSync(process.execPath, [TUTTI, ...words], UTF8);

beforeAll(async () => {
  await bundle(MAIN, { name: "tutti", folder: FOLDER });
  parts = partsOf(FOLDER);
  home = await mkdtemp(join(tmpdir(), "tutti-build-"));
  federation = join(home, "federation");
  tutti("init", federation, "--port", `${await freePort()}`);
  const file = join(federation, "tutti.json");
  const more = { operations: { port: 0 }, tracing: { endpoint: "http://127.0.0.1:1/v1/traces" } };
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), ...more }));
}, 60_000);
afterAll(async () => {
  supervisor.killAll();
  await rm(FOLDER, { recursive: true, force: true });
  await rm(home, { recursive: true, force: true });
});

test("what was built has no TypeScript in it, and loads none", async () => {
  const text = await readFile(new URL("tutti.mjs", parts), "utf8");
  expect(text).not.toMatch(/from "(tsx|@tutti\/)|import\("(tsx|@tutti\/)/);
  expect(existsSync(new URL("migrations/postgres/0001.sql", parts))).toBe(true);
});

test("the licence of each package that is in it lies beside it", async () => {
  const licences = await readFile(new URL("LICENSES.txt", parts), "utf8");
  const programs = (await readdir(parts)).filter((name) => name.endsWith(".mjs"));
  const texts = await Promise.all(programs.map((name) => readFile(new URL(name, parts), "utf8")));
  // Above each file that it bundles, esbuild writes where that was.
  const places = texts.flatMap((text) => [
    ...text.matchAll(/^\/\/ \S*\bnode_modules\/((?:@[^/]+\/)?[^/]+)\//gm),
  ]);
  const names = new Set(places.map(([, name]) => name!));
  expect(names.size).toBeGreaterThan(30);
  const heads = new Set(licences.split("\n").map((line) => /^(\S+) \d\S*: ./.exec(line)?.[1]));
  expect([...names].filter((name) => !heads.has(name))).toEqual([]);
  expect(licences).toContain(
    await readFile(new URL("node_modules/@grpc/grpc-js/LICENSE", ROOT), "utf8").then((text) => text.trim()),
  );
});

test("its coordinator opens its store, serves metrics, traces, and stops in order", {
  timeout: 60_000,
}, async () => {
  expect(tutti("doctor", federation)).toMatch(/ 0 fail\n$/);
  const { child, result, ended, events } = await supervisor.serve(federation);
  expect(result.role).toBe("leader");
  const metrics = await fetch(`http://127.0.0.1:${result.operationsPort}/metrics`);
  expect(await metrics.text()).toContain("tutti_");
  child.kill("SIGTERM");
  expect(await ended).toEqual([0, null]);
  expect(events()).not.toContain("bug");
});

test("its thread takes off masks", { timeout: 30_000 }, async () => {
  const thread = new Worker(new URL("thread.mjs", parts), { execArgv: [] });
  try {
    const heard: unknown[] = [];
    const ended = new Promise<void>((resolve, reject) => {
      thread.on("message", (message: { kind: string }) => {
        heard.push(message);
        if (message.kind !== "lifted") resolve();
      });
      thread.once("error", reject);
    });
    const lifts = someLifts();
    const words = new Uint32Array(100);
    await liftMasks(words, structuredClone(lifts));
    expect(words.some((word) => word !== 0)).toBe(true);
    thread.postMessage({ kind: "begin", length: words.length });
    thread.postMessage({ kind: "lift", lifts });
    thread.postMessage({ kind: "end" });
    await ended;
    expect(heard).toEqual([{ kind: "lifted" }, { kind: "partial", words }]);
  } finally {
    await thread.terminate();
  }
});

/** A survivor's own mask, and a lost device's with two others. */
function someLifts(): Lift[] {
  const random = platformRandom();
  const [sid, lost] = [random.bytes(32), newKeyPair(random)];
  const neighbours = ["b", "c"].map((name) => ({ name, maskKey: newKeyPair(random).publicKey }));
  return [
    { kind: "self", key: selfKey(random.bytes(32), sid, "a") },
    { kind: "pairs", lost: "d", secret: lost.secretKey, sid, neighbours },
  ];
}

test("a build over another leaves alone what may still run of that", { timeout: 60_000 }, async () => {
  const folder = new URL(`node_modules/.cache/tutti/test-${process.pid}-again/`, ROOT);
  const program = new URL("program.ts", folder);
  const dist = new URL("dist/", folder);
  try {
    await mkdir(folder, { recursive: true });
    const built: URL[] = [];
    for (const said of ["one", "two", "two", "three"]) {
      await writeFile(program, `console.log(${JSON.stringify(said)});`);
      await bundle(program, { name: "tutti", folder: dist });
      built.push(partsOf(dist));
      // The build before, of which something may still run: also where the same was built again.
      if (said === "two") expect(existsSync(built[0]!)).toBe(true);
    }
    expect(built[2]).toEqual(built[1]);
    expect([built[0]!, built[1]!, built[3]!].map(existsSync)).toEqual([false, true, true]);
    expect(execFileSync(process.execPath, [fileURLToPath(new URL("tutti.mjs", dist))], UTF8)).toBe("three\n");
    expect(await readdir(dist)).toHaveLength(3);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("what is gone of a build, or damaged, is built again; another build's folder is left alone", {
  timeout: 60_000,
}, async () => {
  const folder = new URL(`node_modules/.cache/tutti/test-${process.pid}-gone/`, ROOT);
  const program = new URL("program.ts", folder);
  const dist = new URL("dist/", folder);
  const build = () => bundle(program, { name: "tutti", folder: dist });
  const runs = () => execFileSync(process.execPath, [fileURLToPath(new URL("tutti.mjs", dist))], UTF8);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(program, 'console.log("one");');
    await build();
    await rm(partsOf(dist), { recursive: true });
    await build();
    expect(runs()).toBe("one\n");
    await writeFile(new URL("tutti.mjs", partsOf(dist)), "");
    await build();
    expect(runs()).toBe("one\n");
    // Of a build that goes on, and of one that was killed.
    const names = [`.${process.ppid}`, `.${process.ppid}.mjs`, ".99999999"];
    for (const name of names) await mkdir(new URL(name, dist));
    await writeFile(program, 'console.log("two");');
    await build();
    expect(names.map((name) => existsSync(new URL(name, dist)))).toEqual([true, true, false]);
    expect(runs()).toBe("two\n");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
