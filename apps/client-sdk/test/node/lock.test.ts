import { type ChildProcess, fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Fault } from "@tutti/foundation/fault";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { lockFolder } from "../../src/node/lock.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-lock-"));
});
afterEach(async () => {
  vi.useRealTimers();
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});

const children: ChildProcess[] = [];
const CHILD = fileURLToPath(new URL("./lock-child.ts", import.meta.url));

/** A process that takes the folder's lock and keeps it. */
async function holder() {
  const child = fork(CHILD, [folder], { execArgv: ["--import", "tsx"] });
  children.push(child);
  const [said] = await once(child, "message");
  const ended = once(child, "exit");
  return { pid: child.pid ?? 0, said: `${said}`, kill: () => child.kill("SIGKILL") && ended };
}

const UNSHARE = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
const hasNamespaces = spawnSync("unshare", [...UNSHARE, "true"]).status === 0;

/** The same in a PID namespace of its own, as containers are: its process is number 1 there. */
async function contained() {
  const args = [...UNSHARE, process.execPath, "--import", "tsx", CHILD, folder];
  const child = spawn("unshare", args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  children.push(child);
  const [said] = await once(child, "message");
  const ended = once(child, "exit");
  return { said: `${said}`, kill: () => child.kill("SIGKILL") && ended };
}

const ELSEWHERE = "0123456789abcdef";
const claimOf = (pid: number, start: string, place: string) =>
  `device.lock-${pid}-${start}-${place}-aabbccddeeff`;

/** This process's own claim, as it would look in `folder`. */
async function ownClaim() {
  const unlock = await lockFolder(folder);
  const [, , pid, start, place] = (await readdir(folder))[0]!.split(/[.-]/);
  await unlock();
  return { pid: Number(pid), start: start!, place: place! };
}

/** As another process would: with a memory of its own of what is held. */
async function another(): Promise<typeof lockFolder> {
  vi.resetModules();
  return (await import("../../src/node/lock.ts")).lockFolder;
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

  test.skipIf(!hasNamespaces)("is one container's, whose processes have the same number", async () => {
    const first = await contained();
    expect(first.said).toBe("locked");
    const second = await contained();
    expect(second.said).toMatch(/^conflict: .*process 1 of another container or machine/);
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: "conflict" });
    await second.kill();
    await first.kill();
  });

  test("a lock of a process whose number came again, or that is gone, is nobody's at once", async () => {
    const { place } = await ownClaim();
    const clock = { sleep: () => Promise.reject(new Error("waited")) };
    for (const [pid, start] of [
      [process.ppid, "1"],
      [process.pid, "1"],
      [99_999_999, "5"],
    ] as const) {
      await writeFile(join(folder, claimOf(pid, start, place)), "");
      await (await lockFolder(folder, { clock }))();
      expect(await readdir(folder)).toEqual([]);
    }
  });

  test("what is not a claim is left alone", async () => {
    for (const name of ["device.lock", "device.lock-1", "device.json"])
      await writeFile(join(folder, name), "");
    await (await lockFolder(folder))();
    expect(await readdir(folder)).toHaveLength(3);
  });

  test("a lock of another place counts while it is touched, whatever its number", async () => {
    const { pid, start } = await ownClaim();
    const file = join(folder, claimOf(pid, start, ELSEWHERE));
    await writeFile(file, "");
    const slept: number[] = [];
    const waits = vi.fn();
    const alive = {
      sleep: async (ms: number) => {
        slept.push(ms);
        if (slept.length === 29) await utimes(file, 5, 5);
      },
    };
    await expect(lockFolder(folder, { clock: alive, waits })).rejects.toMatchObject({
      code: "conflict",
      message: expect.stringContaining(claimOf(pid, start, ELSEWHERE)),
    });
    expect(waits.mock.calls).toEqual([[expect.stringContaining("waiting up to 30 s")]]);
    expect(await readdir(folder)).toHaveLength(1);
    slept.length = 0;
    const dead = { sleep: async (ms: number) => void slept.push(ms) };
    await (await lockFolder(folder, { clock: dead }))();
    expect(slept.reduce((sum, ms) => sum + ms, 0)).toBe(30_000);
    expect(await readdir(folder)).toEqual([]);
  });

  test("one that could not say when its process began is not gone for that", async () => {
    const { place } = await ownClaim();
    const file = join(folder, claimOf(process.ppid, "unknown", place));
    await writeFile(file, "");
    let beat = 5;
    const touched = { sleep: () => utimes(file, beat, ++beat) };
    await expect(lockFolder(folder, { clock: touched })).rejects.toMatchObject({ code: "conflict" });
    expect(await readdir(folder)).toHaveLength(1);
  });

  test("one that let go while it was waited for is waited for no longer", async () => {
    const file = join(folder, claimOf(7, "5", ELSEWHERE));
    await writeFile(file, "");
    const sleep = vi.fn(() => rm(file));
    await (await lockFolder(folder, { clock: { sleep } }))();
    expect(sleep).toHaveBeenCalledOnce();
  });

  test("whoever has it touches its claim, and hears when it was taken away", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const lost = vi.fn();
    const unlock = await lockFolder(folder, { lost });
    const [name] = await readdir(folder);
    await utimes(join(folder, name!), 5, 5);
    vi.advanceTimersByTime(3_000);
    await vi.waitUntil(async () => (await stat(join(folder, name!))).mtimeMs > 5_000);
    expect(lost).not.toHaveBeenCalled();
    await rm(join(folder, name!));
    vi.advanceTimersByTime(3_000);
    await vi.waitUntil(() => lost.mock.calls.length > 0);
    expect(lost.mock.calls).toEqual([[expect.any(Fault)]]);
    await unlock();
  });

  test("of many that begin at once in a process one gets it", async () => {
    const { place } = await ownClaim();
    await writeFile(join(folder, claimOf(99_999_999, "5", place)), "");
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(folder)));
    const [one, ...others] = all.filter(({ status }) => status === "fulfilled");
    expect(one).toBeDefined();
    expect(others).toEqual([]);
  });

  test("of several processes that find a dead one's lock, at no moment two have it", async () => {
    const { place } = await ownClaim();
    const locks = [];
    for (let process = 0; process < 4; process++) locks.push(await another());
    let [holders, most, times] = [0, 0, 0];
    const take = async (lock: typeof lockFolder) => {
      const unlock = await lock(folder);
      most = Math.max(most, ++holders);
      times += 1;
      await readdir(folder);
      holders -= 1;
      await unlock();
    };
    for (let round = 0; round < 30; round++) {
      await writeFile(join(folder, claimOf(99_999_999, `${round}`, place)), "");
      await Promise.allSettled([...locks, ...locks].map(take));
    }
    expect(most).toBe(1);
    expect(times).toBeGreaterThan(0);
    expect(await readdir(folder)).toEqual([]);
  });
});
