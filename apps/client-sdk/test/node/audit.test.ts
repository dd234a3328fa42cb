import { spawn } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Entry } from "@tutti/audit/entry";
import { Fault } from "@tutti/foundation/fault";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { withRefusals } from "../../src/audit.ts";
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

test("a closed log takes nothing: the file may be another process's", () => {
  const audit = open();
  audit.note(note("one"));
  audit.close();
  open().note(note("two"));
  expect(() => audit.note(note("three"))).toThrow(/three: expected an open log/);
  expect(whats()).toEqual(["one", "two"]);
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

test("a disk that fails the head beside the log says so, and the log goes on as one chain", () => {
  const audit = open();
  audit.note(note("one"));
  mkdirSync(`${file}.head.new`);
  const fault = { code: "storage", what: `${file}.head`, message: expect.stringContaining("is in the log") };
  expect(() => audit.note(note("two"))).toThrow(expect.objectContaining(fault));
  rmdirSync(`${file}.head.new`);
  audit.note(note("three"));
  open().note(note("four"));
  expect(whats()).toEqual(["one", "two", "three", "four"]);
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
  const { note: log, refused: refuse } = withRefusals({ note: (entry) => void seen.push(entry) });
  for (let time = 0; time < 3; time++) refuse(new Fault("refused", "a task"));
  expect(seen).toEqual([
    { actor: "device", what: "refused", subject: "a task", detail: { code: "refused" } },
  ]);
  // A task taken on meanwhile and refused for the same reason is another refusal.
  log(note("task.accepted"));
  refuse(new Fault("refused", "a task"));
  expect(seen).toHaveLength(3);
  for (let time = 0; time < 5_000; time++) refuse(new Fault("refused", `word ${time}`));
  expect(seen.length).toBeLessThan(1_100);
});

test("a disk that is full keeps nobody from refusing", () => {
  const { refused: refuse } = withRefusals({
    note: () => {
      throw new Fault("storage", "audit.log");
    },
  });
  expect(() => refuse(new Fault("refused", "a task"))).not.toThrow();
});

describe("a long log", () => {
  const wallMs = () => 1_700_000_000_000;
  /** About four entries a file. */
  const short = () => openAudit(file, { device: "ward-7", wallMs, segmentBytes: 900 });
  const names = () => readdirSync(home).sort();
  const path = (name: string) => join(home, name);
  function write(count: number): void {
    const audit = short();
    for (let at = 0; at < count; at++) audit.note(note(`n${at}`));
  }
  const check = () => read(file, "ward-7");

  test("goes on in the next file, over restarts as one chain", () => {
    write(4);
    write(4);
    write(3);
    expect(names()).toEqual(["audit.1.log", "audit.2.log", "audit.3.log", "audit.log", "audit.log.head"]);
    const all = whats();
    expect(all.filter((what) => what !== "log.continued")).toEqual(
      [4, 4, 3].flatMap((count) => Array.from({ length: count }, (_, at) => `n${at}`)),
    );
    expect(all.filter((what) => what === "log.continued")).toHaveLength(3);
    expect([check().begins, check().files.length]).toEqual([0, 4]);
    expect(readFileSync(file, "utf8")).toMatch(/^[^\n]*"what":"log\.continued","subject":"audit\.3\.log"/);
  });

  test("killed once it was renamed, or while the next was begun: the next start goes on", () => {
    for (const torn of [null, "", '{"seq":3,"at"']) {
      write(3);
      const closed = path(`audit.${names().length - 1}.log`);
      renameSync(file, closed);
      if (torn !== null) writeFileSync(file, torn);
      const before = read(file, "ward-7");
      expect([before.begins, before.torn]).toEqual([0, torn?.length ?? 0]);
      write(1);
      const first = readFileSync(file, "utf8").split("\n")[0]!;
      expect(first).toContain(`"what":"log.continued","subject":"${basename(closed)}"`);
      expect(check().head.count).toBeGreaterThan(before.head.count + 1);
      for (const name of names()) rmSync(path(name));
    }
  });

  test("a device that is killed again and again loses no entry, and always goes on", async () => {
    let said = 0;
    for (const target of [3, 40, 1, 17]) {
      said += await writeUntilKilled(target);
      const { begins } = check();
      expect(begins).toBe(0);
      expect(whats().filter((what) => what === "one").length).toBeGreaterThanOrEqual(said);
    }
    expect(names().length).toBeGreaterThan(20);
  });

  /** Starts a writer and kills it (SIGKILL) once it said so many entries; how many it said. */
  function writeUntilKilled(target: number): Promise<number> {
    const script = fileURLToPath(new URL("./audit-writer.ts", import.meta.url));
    const child = spawn(process.execPath, ["--import", "tsx", script, file], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    const count = () => said.split("\n").length - 1;
    return new Promise((resolve, reject) => {
      child.stdout.on("data", (data: Buffer) => {
        said += data.toString();
        if (count() >= target) child.kill("SIGKILL");
      });
      child.on("error", reject);
      child.on("close", (code, signal) => {
        if (signal === "SIGKILL") resolve(count());
        else reject(new Error(`the writer ended by itself (${code ?? signal})`));
      });
    });
  }

  test("what fails between two files is not written, and the log goes on after it", () => {
    let fails = false;
    const clock = () => {
      if (fails) throw new Fault("storage", file);
      return 0;
    };
    const audit = openAudit(file, { device: "ward-7", wallMs: clock, segmentBytes: 900 });
    for (const what of ["a", "b", "c", "d"]) audit.note(note(what));
    fails = true;
    expect(() => audit.note(note("e"))).toThrow(Fault);
    expect(() => audit.note(note("f"))).toThrow(Fault);
    expect(names()).toEqual(["audit.1.log", "audit.log.head"]);
    fails = false;
    audit.note(note("g"));
    expect(whats()).toEqual(["a", "b", "c", "d", "log.continued", "g"]);
  });

  test("older files may be elsewhere, and it says so; one between or a part of one may not", () => {
    write(12);
    const whole = check();
    renameSync(path("audit.1.log"), path("archived.log"));
    expect(check()).toMatchObject({ head: whole.head, begins: 4 });
    expect(() => write(1)).not.toThrow();
    renameSync(path("archived.log"), path("audit.1.log"));
    expect(check().begins).toBe(0);
    renameSync(path("audit.2.log"), path("archived.log"));
    expect(check).toThrow(/audit\.3\.log: .*expected entry 4, got entry \d/);
    renameSync(path("archived.log"), path("audit.2.log"));
    const second = readFileSync(path("audit.2.log"), "utf8");
    writeFileSync(path("audit.2.log"), second.slice(second.indexOf("\n") + 1));
    expect(check).toThrow(/audit\.2\.log/);
    rmSync(path("audit.1.log"));
    expect(check).toThrow(/audit\.2\.log, line 1.*log\.continued, got entry \d/);
  });

  test("the first lines, or all, of the newest file missing closes the device", () => {
    write(12);
    const newest = readFileSync(file, "utf8");
    writeFileSync(file, newest.slice(newest.indexOf("\n") + 1));
    expect(short).toThrow(/log\.continued/);
    writeFileSync(file, newest);
    expect(short).not.toThrow();
    rmSync(file);
    expect(short).toThrow(/at least \d+ entries, as remembered/);
  });

  test("a newest file that does not go on from the one before closes the device", () => {
    write(6);
    const other = mkdtempSync(join(tmpdir(), "tutti-audit-"));
    const elsewhere = join(other, "audit.log");
    const foreign = openAudit(elsewhere, { device: "ward-7", wallMs: () => 0, segmentBytes: 900 });
    for (let at = 0; at < 6; at++) foreign.note(note(`x${at}`));
    for (const name of ["audit.log", "audit.log.head"]) copyFileSync(join(other, name), path(name));
    expect(short).toThrow(/one that goes on from audit\.\d\.log/);
    rmSync(other, { recursive: true });
  });

  test("nothing is written over, and numbers go on when all older files were taken away", () => {
    write(12);
    const numbers = names().filter((name) => /\d/.test(name));
    for (const name of numbers) rmSync(path(name));
    write(3);
    const [next] = names();
    expect(next).toBe(`audit.${numbers.length + 1}.log`);
    writeFileSync(path(`audit.${numbers.length + 2}.log.keep`), "");
    expect(names()).toContain("audit.log");
  });

  test("no file is too long to be read, and a file without lines is none", () => {
    const audit = open();
    const detail = Object.fromEntries(Array.from({ length: 16 }, (_, at) => [`${at}`, "x".repeat(200)]));
    for (let at = 0; at < 400; at++) audit.note({ ...note("long"), detail });
    expect(statSync(file).size).toBeGreaterThan(1 << 20);
    expect(check().head.count).toBe(400);
    open().note(note("more"));
    expect(check().head.count).toBe(401);
    writeFileSync(file, "x".repeat(3 << 20));
    expect(open).toThrow(/audit log/);
    expect(check).toThrow(/without an end/);
  });
});
