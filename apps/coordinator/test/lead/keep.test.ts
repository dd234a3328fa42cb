import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { afterEach, beforeEach, expect, test } from "vitest";
import { authority, random, TRUST } from "../../../../libs/round/test/cast.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import type { Federation } from "../../src/folder/federation.ts";
import { LIMITS } from "../../src/grpc/limits.ts";
import { type KeepOptions, keepOffice } from "../../src/lead/keep.ts";
import { Office } from "../../src/lead/office.ts";
import { NO_LOG } from "../../src/observe/log.ts";
import type { Engine } from "../../src/store/engine.ts";
import { readLease } from "../../src/store/lease.ts";
import { openSqlite } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { COORDINATOR } from "../drive/house.ts";
import { lead } from "../store/bench.ts";

let folder: string;
let engine: Engine;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-keep-"));
  // A keeper asks for the lease of any engine but SQLite's, whose file is one process's alone.
  engine = { ...(await openSqlite({ file: join(folder, "tutti.sqlite") })), name: "postgres" };
});
afterEach(async () => {
  await engine.close();
  await rm(folder, { recursive: true, force: true });
});

const until = async (isSo: () => boolean) => {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
};

function partsOf(clock = systemClock()) {
  const config = { identity: { renewalGraceDays: 30 }, limits: LIMITS };
  const federation = { authority: authority.publicKey, coordinator: COORDINATOR, owners: [], config };
  return {
    artifacts: openArtifacts(join(folder, "artifacts")),
    federation: federation as unknown as Federation,
    clock,
    random,
    verify: TRUST.verify!,
    log: NO_LOG,
  };
}

/** A process whose role, cut connections and ends of watching are told. */
function keeping(change: Partial<KeepOptions> & { office: Office; told: string[] }) {
  const { office, told } = change;
  office.onRole(({ kind }) => told.push(kind));
  return keepOffice({
    engine,
    address: "a:1",
    cut: () => told.push("cut"),
    watch: () => () => told.push("unwatched"),
    around: (store) => store,
    parts: partsOf(),
    ...change,
  });
}

test("whoever has a file leads at once, and gives the word away before it ends", async () => {
  const [office, told] = [new Office(), [] as string[]];
  const kept = await keeping({ office, told, engine: { ...engine, name: "sqlite" } });
  expect([office.term().epoch, office.leads]).toEqual([1, true]);
  await kept.close();
  expect(told).toEqual(["standby", "leader", "standby", "cut", "unwatched"]);
  expect(() => office.term()).toThrow("a standby");
});

test("its name in the lease ends with what the database calls its connections", async () => {
  const session = "tutti lease 0a0b0c";
  const office = new Office();
  const kept = await keeping({ office, told: [], engine: { ...engine, session } });
  await until(() => office.leads);
  expect((await readLease(engine)).holder).toMatch(new RegExp(` ${process.pid} ${session}$`));
  await kept.close();
});

test("a process that stood still answers nobody when it wakes, before it could look", async () => {
  const [office, told] = [new Office(), [] as string[]];
  let aheadMs = 0;
  const clock = { ...systemClock(), nowMs: () => performance.now() + aheadMs };
  const kept = await keeping({ office, told, parts: partsOf(clock) });
  await until(() => office.leads);
  expect(office.term().epoch).toBe(1);
  aheadMs = 3_000;
  expect(office.role.kind).toBe("leader");
  expect(() => office.term()).toThrow("just beginning to lead");
  expect(office.leads).toBe(false);
  aheadMs = 0;
  await kept.close();
});

test("a reign that began too late ends without harm to the one after it in this process", async () => {
  const office = new Office();
  const told: string[] = [];
  let answer = () => {};
  const late = new Promise<void>((resolve) => {
    answer = resolve;
  });
  /** One answer of the database comes when the first epoch is over. */
  const slow = (store: Store): Store => ({
    ...store,
    runs: async () => {
      told.push("asked");
      await late;
      return await store.runs();
    },
  });
  let watched = 0;
  const keeping = await keepOffice({
    engine,
    office,
    address: "a:1",
    cut: () => told.push("cut"),
    watch: () => {
      const which = ++watched;
      return () => told.push(`unwatched ${which}`);
    },
    around: (store) => (store.epoch === 1 ? slow(store) : store),
    parts: partsOf(),
  });
  await until(() => told.includes("asked"));
  // Another has the lease for a moment; then this process leads again.
  await lead(engine);
  await until(() => office.coordinator !== null);
  const term = office.term();
  expect([term.epoch, watched]).toEqual([3, 1]);
  answer();
  await until(() => told.includes("unwatched 2"));
  expect(office.term()).toBe(term);
  expect(office.role).toEqual({ kind: "leader", epoch: 3 });
  expect(told).not.toContain("cut");
  await keeping.close();
  expect(told.slice(-2)).toEqual(["cut", "unwatched 1"]);
  expect(() => office.term()).toThrow("a standby");
}, 30_000);
