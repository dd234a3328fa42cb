import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initFederation } from "@tutti/coordinator/folder/init";
import { PATHS } from "@tutti/coordinator/folder/layout";
import { openStore } from "@tutti/coordinator/store/store";
import { platformRandom } from "@tutti/foundation/random";
import { Command } from "commander";
import { afterAll, expect, test, vi } from "vitest";
import { auditCommand } from "../src/commands/audit/audit.ts";
import { KINDS } from "../src/commands/audit/kinds.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-cli-audit-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const folder = join(home, "federation");

/** Runs `tutti audit …` in this process; what it wrote to stdout. */
async function audit(...args: string[]): Promise<string> {
  let out = "";
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  const root = new Command("tutti").option("--json").exitOverride();
  const command = auditCommand();
  for (const one of [command, ...command.commands]) one.copyInheritedSettings(root);
  try {
    await root.addCommand(command).parseAsync(["audit", ...args, "--federation", folder], { from: "user" });
  } finally {
    write.mockRestore();
  }
  return out.trim();
}

/** Notes as many, then removes old ones by the rule. */
async function go(entries: number, forgets: boolean): Promise<void> {
  const store = await openStore({ file: join(folder, PATHS.store) });
  for (let at = 0; at < entries; at++)
    await store.note({ actor: "owner", what: "artifact.put", subject: "a" });
  if (forgets) await store.forgetEntries(100);
  await store.close();
}

test("old entries are exported, removed, and found whole together with the rest", async () => {
  await initFederation({
    folder,
    name: "hearts",
    host: "127.0.0.1",
    port: 7443,
    random: platformRandom(),
    nowMs: Date.now(),
  });
  const [first, second] = [join(home, "first.jsonl"), join(home, "second.jsonl")];
  await go(150, false);
  const said = await audit("export", first);
  expect(said).toBe(`entries 0 to 149 of the coordinator of hearts in ${first}`);
  expect(statSync(first).mode & 0o777).toBe(0o600);
  await expect(audit("export", first)).rejects.toMatchObject({ code: "conflict", what: first });
  const nowhere = join(home, "nowhere", "x.jsonl");
  await expect(audit("export", nowhere)).rejects.toMatchObject({
    code: "storage",
    what: `writing ${nowhere}`,
    detail: { got: "no such folder" },
  });
  await go(100, true);
  expect(await audit("verify")).toMatch(
    /whole from entry 150 on: 251 entries, head \w{16}; .*; the last 150 were removed at 20/,
  );
  expect(await audit("show", "--last", "1")).toMatch(
    /audit\.removed .*\n1 of 251 entries of .*; entries before 150/,
  );
  expect(await audit("verify", "--older", first)).toMatch(/is whole: 251 entries, head [0-9a-f]{16}$/);
  expect(await audit("export", second)).toMatch(/^entries 150 to 250 /);
  await go(99, true);
  const whole = await audit("verify", "--older", second, "--older", first, "--json");
  expect(JSON.parse(whole)).toMatchObject({ entries: 351, begins: 0, removed: { entries: 100 } });
  const gap = { code: "refused", detail: { expected: "entry 150", got: "entry 250" } };
  await expect(audit("verify", "--older", first)).rejects.toMatchObject(gap);
  expect(readdirSync(home).sort()).toEqual(["federation", "first.jsonl", "second.jsonl"]);
});

test("an exported part that was changed, or is none, is named", async () => {
  const wrong = join(home, "wrong.jsonl");
  writeFileSync(wrong, "hello\n");
  const refused = { code: "refused", what: expect.stringContaining(wrong) };
  await expect(audit("verify", "--older", wrong)).rejects.toMatchObject(refused);
  const none = { code: "not-found", detail: { expected: "an exported part of the log" } };
  await expect(audit("verify", "--older", join(home, "none"))).rejects.toMatchObject(none);
});

test("a kind that no entry can have is refused, with those there are", async () => {
  const refused = {
    code: "bad-input",
    what: "--what",
    detail: { got: '"run.startet"', expected: expect.stringContaining("run.started, release.published") },
  };
  await expect(audit("show", "--what", "run.startet")).rejects.toMatchObject(refused);
  await expect(audit("show", "--what", "run.startet")).rejects.toThrow("Did you mean run.started?");
  await expect(audit("show", "--what", "bogus")).rejects.toMatchObject({ code: "bad-input" });
  await expect(audit("show", "--what", "task.accepted")).rejects.toMatchObject({ code: "bad-input" });
  expect(await audit("show", "--what", "device")).toMatch(/^0 of 351 entries/);
  expect(await audit("show", "--what", "artifact.put", "--last", "1")).toMatch(/^ *\d+ .*\n1 of 351 /);
});

test("so is a moment that is none; one that is, in each of its forms, is in UTC", async () => {
  for (const since of ["yesterday", "2026-02-31", "2026-13-01", "1", "2026-03-01T25:00Z"])
    await expect(audit("show", "--since", since)).rejects.toThrow(/Expected a date.*2026-03-01T13:45:00Z/);
  const today = new Date().toISOString().slice(0, 10);
  for (const since of ["2024-01", "2024-01-01", "2024-01-01T10:00", "2024-01-01T10:00:00.5Z"])
    expect(await audit("show", "--since", since, "--last", "3")).toMatch(/\n3 of 351 /);
  expect(await audit("show", "--since", `${Number(today.slice(0, 4)) + 2}-01-01`)).toMatch(/^0 of 351 /);
});

test("the known kinds are those that the sources write and the guide tells", () => {
  const root = new URL("../../../", import.meta.url);
  const sources = ["apps/coordinator/src", "apps/client-sdk/src", "libs/audit/src"].flatMap((room) =>
    readdirSync(new URL(room, root), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => readFileSync(new URL(`${room}/${name}`, root), "utf8")),
  );
  const kind = /(?:\bwhat: |\b(?:CONTINUED|HEAD_TOLD|REMOVED) = )"([a-z]+\.[a-z-]+|refused)"/g;
  const written = sources.flatMap((text) => [...text.matchAll(kind)].map(([, name]) => name));
  // By the state of a run.
  const states = ["run.finished", "run.failed", "run.stopped"];
  const known = [...KINDS.coordinator, ...KINDS.device];
  expect([...new Set([...written, ...states])].sort()).toEqual([...known].sort());
  const guide = readFileSync(new URL("docs/operating.md", root), "utf8");
  expect(known.filter((name) => !guide.includes(`\`${name}\``))).toEqual([]);
});
