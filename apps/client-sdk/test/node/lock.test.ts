import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lockFolder } from "../../src/node/lock.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-lock-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A process that takes the folder's lock and keeps it. */
async function holder() {
  const child = fork(new URL("./lock-child.ts", import.meta.url), [folder], {
    execArgv: ["--import", "tsx"],
  });
  const [said] = await once(child, "message");
  const ended = once(child, "exit");
  return { pid: child.pid ?? 0, said: `${said}`, kill: () => child.kill("SIGKILL") && ended };
}

describe("a device's folder", () => {
  test("is one process's; a killed one's lock is nobody's", async () => {
    const first = await holder();
    expect(first.said).toBe("locked");
    await expect(lockFolder(folder)).rejects.toMatchObject({
      code: "conflict",
      detail: { got: `process ${first.pid}` },
    });
    const second = await holder();
    expect(second.said).toMatch(/^conflict/);
    await second.kill();
    await first.kill();
    const unlock = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: "conflict" });
    await unlock();
    await (await lockFolder(folder))();
    expect(await readdir(folder)).toEqual([]);
  });

  test("a lock of a process whose number came again, or that names none, is nobody's", async () => {
    for (const text of [`${process.ppid} 1\n`, "99999999 5\n", "", "x y\n"]) {
      await writeFile(join(folder, "device.lock"), text);
      const unlock = await lockFolder(folder);
      expect(await readFile(join(folder, "device.lock"), "utf8")).toMatch(new RegExp(`^${process.pid} `));
      await unlock();
    }
  });

  test("of many that begin at once one gets it", async () => {
    await writeFile(join(folder, "device.lock"), "99999999 5\n");
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder)));
    const [one, ...others] = all.filter(({ status }) => status === "fulfilled");
    expect(one).toBeDefined();
    expect(others).toEqual([]);
  });

  test("of many that begin and let go, at no moment two have it", async () => {
    let holders = 0;
    let most = 0;
    const once = async () => {
      const unlock = await lockFolder(folder);
      most = Math.max(most, ++holders);
      await readdir(folder);
      holders -= 1;
      await unlock();
    };
    for (let round = 0; round < 20; round++) await Promise.allSettled(Array.from({ length: 8 }, once));
    expect(most).toBe(1);
  });
});
