import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Entry } from "@tutti/audit/entry";
import { Fault } from "@tutti/foundation/fault";
import { afterEach, beforeEach, expect, test } from "vitest";
import { refusals } from "../../src/audit.ts";
import { coordinatorHeads, headTold, openAudit, read } from "../../src/node/audit.ts";

let home: string;
let file: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "tutti-audit-"));
  file = join(home, "audit.log");
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const open = () => openAudit(file, { device: "ward-7", wallMs: () => 1_700_000_000_000 });
const whats = (): string[] => {
  const all: Entry[] = [];
  read(file, "ward-7", (entry) => all.push(entry));
  return all.map(({ what }) => what);
};
const note = (what: string) => ({ actor: "device", what, subject: "s" });

test("goes on over restarts as one chain", () => {
  open().note(note("one"));
  const again = open();
  again.note(note("two"));
  again.note(note("three"));
  expect(whats()).toEqual(["one", "two", "three"]);
});

test("a last line that a crash tore is cut off and the log says so", () => {
  open().note(note("one"));
  appendFileSync(file, '{"seq":1,"at":"2026');
  expect(read(file, "ward-7").torn).toBe(19);
  open().note(note("two"));
  expect(whats()).toEqual(["one", "log.repaired", "two"]);
});

test("a line that was changed or removed, also the last, closes the device", () => {
  const audit = open();
  for (const what of ["one", "two", "three"]) audit.note(note(what));
  const whole = readFileSync(file, "utf8");
  const lines = whole.split(/(?<=\n)/);
  for (const [text, says] of [
    [whole.replace('"two"', '"owt"'), /line 2/],
    [lines.toSpliced(1, 1).join(""), /line 2/],
    [lines.slice(0, -1).join(""), /at least 3 entries, as remembered, got 2/],
    ["", /at least 3 entries/],
  ] as const) {
    writeFileSync(file, text);
    expect(() => open()).toThrow(says);
  }
  expect(() => openAudit(file, { device: "ward-8", wallMs: () => 0 })).toThrow(/audit log/);
});

test("a head that lags behind, or that a power cut emptied, is no reason to stop", () => {
  open().note(note("one"));
  const early = readFileSync(`${file}.head`, "utf8");
  open().note(note("two"));
  for (const head of [early, ""]) {
    writeFileSync(`${file}.head`, head);
    expect(() => open()).not.toThrow();
  }
});

test("which head the coordinator told is written down once, and one an hour, the newest", () => {
  let nowMs = 0;
  const heads = coordinatorHeads(open(), () => nowMs);
  const tell = (at: number) => heads.hear({ auditEntries: at, auditHead: new Uint8Array(32).fill(at) });
  const counts = () => {
    const all: number[] = [];
    read(file, "ward-7", (entry) => all.push(headTold(entry)!.count));
    return all;
  };
  tell(4);
  tell(4);
  heads.hear({ auditEntries: 0, auditHead: new Uint8Array(0) });
  for (let at = 5; at < 200; at++) tell(at);
  expect(counts()).toEqual([4]);
  nowMs = 3_600_000;
  tell(200);
  tell(201);
  expect(counts()).toEqual([4, 200]);
  heads.close();
  heads.close();
  expect(counts()).toEqual([4, 200, 201]);
  const first: unknown[] = [];
  read(file, "ward-7", (entry) => first.push(headTold(entry)));
  expect(first[0]).toEqual({ count: 4, hash: "04".repeat(32) });
});

test("refusals are noted once each, and not without end", () => {
  const seen: unknown[] = [];
  const refuse = refusals({ note: (entry) => void seen.push(entry) });
  for (let time = 0; time < 3; time++) refuse(new Fault("refused", "a task"));
  expect(seen).toEqual([
    { actor: "device", what: "refused", subject: "a task", detail: { code: "refused" } },
  ]);
  for (let time = 0; time < 5_000; time++) refuse(new Fault("refused", `word ${time}`));
  expect(seen.length).toBeLessThan(1_100);
});

test("a disk that is full keeps nobody from refusing", () => {
  const refuse = refusals({
    note: () => {
      throw new Fault("storage", "audit.log");
    },
  });
  expect(() => refuse(new Fault("refused", "a task"))).not.toThrow();
});
