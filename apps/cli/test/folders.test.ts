import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeFolder as makeAtSite } from "@tutti/client-sdk/node/atomic";
import { makeFolder } from "@tutti/coordinator/folder/files";
import { afterAll, describe, expect, test } from "vitest";

const home = mkdtempSync(join(tmpdir(), "tutti-folders-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** In a process of its own: where this goes wrong nothing ends it but a signal. */
const init = (folder: string) =>
  spawnSync(process.execPath, [fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url)), "init", folder], {
    encoding: "utf8",
    timeout: 40_000,
    killSignal: "SIGKILL",
  });

test.skipIf(process.platform !== "linux")(
  "init below /proc ends, and names what cannot be made",
  {
    timeout: 60_000,
  },
  () => {
    const { signal, status, stderr } = init("/proc/x/fed");
    expect([signal, status]).toEqual([null, 11]);
    expect(stderr).toContain("/proc/x: expected a folder that can be made");
  },
);

describe.each([
  ["coordinator", makeFolder],
  ["site", makeAtSite],
])("a folder and those above it, at a %s", (where, make) => {
  const at = (...path: string[]) => join(home, where, ...path);

  test("are made, and may be there", async () => {
    await make(at("a", "b", "c"), 0o700);
    await make(at("a", "b", "c"));
    await make(at("a", "b"));
    expect(statSync(at("a", "b", "c")).mode & 0o777).toBe(0o700);
  });

  test("are not made in a file's place or below one", async () => {
    mkdirSync(at(), { recursive: true });
    writeFileSync(at("file"), "");
    await expect(make(at("file"))).rejects.toMatchObject({ code: "storage", what: at("file") });
    await expect(make(at("file", "a"))).rejects.toMatchObject({ code: "storage" });
  });

  test.skipIf(process.platform !== "linux")("are not made for ever", async () => {
    await expect(make("/proc/x/y/z")).rejects.toMatchObject({ code: "storage", what: "/proc/x" });
  });
});
