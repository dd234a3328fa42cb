import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { EnrollReplySchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { afterEach, expect, test, vi } from "vitest";
import type { DeviceEvent } from "../../src/events.ts";
import { Device } from "../../src/node/device.ts";
import { join } from "../../src/node/join.ts";
import { clouds } from "../mlp.ts";

afterEach(() => void vi.useRealTimers());

test("a device whose folder was taken over stops taking part, says so, and writes no entry", async () => {
  const home = await mkdtemp(path(tmpdir(), "tutti-lost-"));
  try {
    const [federation, folder] = [path(home, "federation"), path(home, "site")];
    const [random, nowMs] = [platformRandom(), Date.now()];
    await initFederation({ folder: federation, name: "f", host: "127.0.0.1", port: 1, random, nowMs });
    const token = await createToken({ folder: federation, name: "ann", days: 1, random, nowMs });
    const link = { enroll: async () => create(EnrollReplySchema) };
    await join({ joinFile: joinFileText({ ...token, address: "127.0.0.1:1" }), folder, random, link });
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const events: DeviceEvent[] = [];
    const data = clouds(4, seededRandom("ann"));
    const device = await Device.open({ folder, data, events: (event) => events.push(event) });
    const taking = device.participate();
    const [claim] = (await readdir(folder)).filter((name) => name.startsWith("device.lock-"));
    await rm(path(folder, claim!));
    vi.advanceTimersByTime(3_000);
    await expect(taking).rejects.toMatchObject({ code: "conflict", what: folder });
    expect(events.filter(({ kind }) => kind === "refused")).toHaveLength(1);
    const log = () => readFile(path(folder, "audit.log"), "utf8").catch(() => "");
    const before = await log();
    await device.rollback().catch(() => {});
    await device.close();
    expect(await log()).toBe(before);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
});
