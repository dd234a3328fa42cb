import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { firstHeader } from "@tutti/round/run";
import type { RunHeader } from "@tutti/wire/journal";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openArtifacts } from "../../src/artifacts.ts";
import { ledgerOf } from "../../src/drive/ledger.ts";
import { Retention, type Shelf } from "../../src/drive/retention.ts";
import { onFailpoint } from "../../src/failpoint.ts";
import { openLog } from "../../src/observe/log.ts";
import { type Kept, openStore, type Store } from "../../src/store/store.ts";

const RUN = { name: "r", plan: new Uint8Array(1), header: new Uint8Array(), state: "running" };
const text = (bytes: string) => new TextEncoder().encode(bytes);

let folder: string;
let store: Store;
const artifacts = () => openArtifacts(join(folder, "artifacts"));
const left = () => readdirSync(join(folder, "artifacts")).length;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "tutti-keep-"));
  store = await openStore({ file: join(folder, "tutti.sqlite") });
  for (const run of ["a", "b"]) await store.addRun({ ...RUN, run });
});
afterEach(async () => {
  onFailpoint(undefined);
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

const log = openLog({ clock: systemClock(), write: () => {} });
function retentionOf(kept: Kept, needed: readonly string[] = []): Retention {
  return new Retention({
    store,
    artifacts: artifacts(),
    kept,
    isInUse: (name) => needed.includes(name),
    log,
  });
}

/** A round that makes an adapter and one piece of evidence, and is closed. */
async function round(shelf: Shelf, run: string, { at, says }: { at: number; says: string }): Promise<string> {
  const adapter = await shelf.artifacts.putBytes(text(`adapter ${says}`));
  await shelf.artifacts.putBytes(text(`state ${says}`));
  const header: RunHeader = { ...firstHeader({ version: at, manifest: "", adapter }), round: at };
  await ledgerOf(store, run, shelf).close(header);
  return adapter;
}

describe("files of old rounds", () => {
  test("all stay where no rule is given", async () => {
    const retention = retentionOf({});
    const shelf = retention.shelf("a");
    for (let at = 1; at <= 6; at++) await round(shelf, "a", { at, says: `${at}` });
    await retention.close();
    expect(left()).toBe(12);
  });

  test("go by kind, but for one that a run goes on from", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 2 });
    const first = await round(retention.shelf("a"), "a", { at: 1, says: "1" });
    const again = retentionOf({ evidence: 1, adapter: 2 }, [first]);
    const shelf = again.shelf("a");
    for (let at = 2; at <= 6; at++) {
      await round(shelf, "a", { at, says: `${at}` });
      await again.close();
    }
    // The first, the newest two, and the newest state.
    expect(left()).toBe(4);
    expect(await artifacts().has(first)).toBe(true);
  });

  test("stay while another run has the same", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const [a, b] = [retention.shelf("a"), retention.shelf("b")];
    const shared = await round(a, "a", { at: 1, says: "the same" });
    await round(b, "b", { at: 1, says: "the same" });
    await round(a, "a", { at: 2, says: "other" });
    await retention.close();
    expect(await artifacts().has(shared)).toBe(true);
    await round(b, "b", { at: 2, says: "another" });
    await retention.close();
    expect(await artifacts().has(shared)).toBe(false);
  });

  test("stay while a round in progress put them again", async () => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const [a, b] = [retention.shelf("a"), retention.shelf("b")];
    const old = await round(a, "a", { at: 1, says: "old" });
    await b.artifacts.putBytes(text("adapter old"));
    await round(a, "a", { at: 2, says: "new" });
    await retention.close();
    expect(await artifacts().has(old)).toBe(true);
  });

  test.each(["keep.removing", "keep.removed"] as const)("killed at %s, the rest goes later", async (name) => {
    const retention = retentionOf({ evidence: 1, adapter: 1 });
    const shelf = retention.shelf("a");
    await round(shelf, "a", { at: 1, says: "1" });
    onFailpoint((met) => {
      if (met === name) throw new Error("dead");
    });
    await round(shelf, "a", { at: 2, says: "2" });
    await retention.close();
    onFailpoint(undefined);
    const next = retentionOf({ evidence: 1, adapter: 1 });
    await round(next.shelf("a"), "a", { at: 3, says: "3" });
    await next.close();
    expect(left()).toBe(2);
    expect(await store.filesBeyond("a", { round: 3, kept: { evidence: 1, adapter: 1 } })).toEqual([]);
  });
});
