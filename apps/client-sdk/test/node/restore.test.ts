import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { backUp } from "@tutti/coordinator/backup/backup";
import { restore } from "@tutti/coordinator/backup/restore";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import { Admin, PutPartSchema, StartRunRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { expect, test } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import { connectService, Device, join } from "../../src/node/index.ts";
import { clouds, prepared } from "../mlp.ts";

const random = platformRandom();
const NAMES = ["ann", "bob", "eve"];

test("a backup taken in the midst of a round: restored, the round ends with the sum it would have had", {
  timeout: 120_000,
}, async () => {
  const home = await mkdtemp(path(tmpdir(), "tutti-restore-"));
  const [folder, again] = [path(home, "federation"), path(home, "again")];
  const about = { name: "test", host: "127.0.0.1", port: await freePort() };
  await initFederation({ folder, ...about, random, nowMs: Date.now() });
  let server: Server = await serveFederation({ folder });
  let gate: Promise<void> = Promise.resolve();
  let training = 0;
  const devices = await Promise.all(
    NAMES.map(async (name) => {
      const token = await createToken({ folder, name, days: 1, random, nowMs: Date.now() });
      await join({ joinFile: joinFileText(token), folder: path(home, name), random });
      const split = {
        train: clouds(40, seededRandom(name)),
        heldOut: clouds(10, seededRandom(`${name}, held out`)),
      };
      const data = async () => {
        training++;
        if (name === "eve") await gate;
        return split;
      };
      return await Device.open({ folder: path(home, name), data });
    }),
  );
  const start = async (name: string) => {
    const settings = prepared({ name, rounds: 1, update: { maxWeight: 100 } });
    const owner = await openOwner(folder);
    const admin = connectService(Admin, owner);
    for (const bytes of [settings.base, settings.initial]) await admin.put(parts(bytes));
    const plan = signPlan(settings.plan, owner);
    const { run } = await admin.startRun(create(StartRunRequestSchema, { plan }));
    admin.close();
    return run;
  };
  const finished = (run: string) => NAMES.map(() => [{ run, outcome: "finished", reason: "" }]);
  try {
    const first = await start("undisturbed");
    const ends = await Promise.all(devices.map((device) => device.participate()));
    expect(ends.map(({ runs }) => runs)).toEqual(finished(first));
    const undisturbed = server.coordinator.driver(first).header.adapter;

    // One device trains for as long as the gate is shut, so the round is in its midst.
    let letGo = () => {};
    gate = new Promise((resolve) => {
      letGo = resolve;
    });
    training = 0;
    const second = await start("restored");
    const taking = devices.map((device) => device.participate());
    while (training < NAMES.length) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(server.coordinator.driver(second).round?.phase).toBe("training");
    await backUp({ folder, to: path(home, "backup"), nowMs: Date.now() });
    await server.close();
    await restore({ from: path(home, "backup"), folder: again, nowMs: Date.now() });
    const file = path(again, "tutti.json");
    expect(await readFile(file, "utf8")).toBe(await readFile(path(folder, "tutti.json"), "utf8"));
    server = await serveFederation({ folder: again });
    letGo();
    expect((await Promise.all(taking)).map(({ runs }) => runs)).toEqual(finished(second));
    const { header } = server.coordinator.driver(second);
    expect(header.adapter).toBe(undisturbed);
    expect([header.version, header.history.map(({ survivors }) => survivors)]).toEqual([1, [3, 3]]);
    expect(server.coordinator.parts.store.epoch).toBeGreaterThan(1_000_000);
  } finally {
    await Promise.all(devices.map((device) => device.close()));
    await server.close().catch(() => {});
    await rm(home, { recursive: true, force: true });
  }
});

async function* parts(bytes: Uint8Array) {
  const header = { sha256: sha256(bytes), totalBytes: bytes.length };
  yield create(PutPartSchema, { part: { case: "header", value: header } });
  yield create(PutPartSchema, { part: { case: "chunk", value: bytes } });
}
