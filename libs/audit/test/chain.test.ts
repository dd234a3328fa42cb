import { utf8 } from "@tutti/foundation/bytes";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Checker, checkChain, type Head, lineAfter, startOf } from "../src/chain.ts";
import type { Note } from "../src/entry.ts";

const OWNER = "coordinator";
const NOTES: readonly Note[] = [
  { actor: "owner", what: "run.started", subject: "ab".repeat(32), detail: { rounds: 3 } },
  { actor: "ward-7", what: "device.enrolled", subject: "cd".repeat(32) },
  {
    actor: "coordinator",
    what: "round.failed",
    subject: "r",
    detail: { reason: 'too "few"\n', again: true },
  },
  { actor: "Klinik Süd", what: "device.revoked", subject: "ward-7", detail: {} },
];

function written(notes: readonly Note[], from: Head = startOf(OWNER)): { lines: string[]; head: Head } {
  let head = from;
  const lines = notes.map((note, at) => {
    const next = lineAfter(head, note, 1_700_000_000_000 + at);
    head = next.head;
    return next.line;
  });
  return { lines, head };
}

const check = (lines: readonly string[], remembered: readonly Head[] = []) =>
  checkChain(lines, { owner: OWNER, remembered });

describe("a chain", () => {
  const { lines, head } = written(NOTES);

  test("reads back what was written, in its order", () => {
    const checker = new Checker(OWNER);
    const entries = lines.map((line) => checker.take(line));
    expect(entries.map(({ actor, what, subject, detail }) => ({ actor, what, subject, detail }))).toEqual(
      NOTES.map((note) => ({ detail: {}, ...note })),
    );
    expect(entries.map(({ seq }) => seq)).toEqual([0, 1, 2, 3]);
    expect(checker.end()).toEqual(head);
    expect(lines.every((line) => !line.includes("\n"))).toBe(true);
  });

  test("every change of any single byte is found", () => {
    const text = lines.join("\n");
    const bytes = utf8(text);
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [0x01, 0x20, 0x80]) {
        const changed = bytes.slice();
        changed[at]! ^= flip;
        const decoded = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(changed);
        expect(() => check(decoded.split("\n")), `byte ${at}`).toThrow(/audit/);
      }
    }
  });

  test("every line that is removed, doubled or moved is found; the last by its head", () => {
    for (let at = 0; at < lines.length; at++) {
      expect(() => check(lines.toSpliced(at, 1), [head])).toThrow(/audit log/);
      expect(() => check(lines.toSpliced(at, 0, lines[at]!))).toThrow(/audit log/);
      if (at > 0)
        expect(() => check(lines.toSpliced(at - 1, 2, lines[at]!, lines[at - 1]!))).toThrow(/audit/);
    }
    // Without a head that somebody remembers, a shorter log is a log.
    expect(check(lines.slice(0, -1)).count).toBe(3);
  });

  test("one that was written anew as a whole is found by any head of the old one", () => {
    const other = written(NOTES.map((note) => ({ ...note, actor: "somebody" })));
    expect(() => check(other.lines, [head])).toThrow(/as remembered/);
    for (let count = 1; count <= lines.length; count++) {
      const early = check(lines.slice(0, count));
      expect(() => check(other.lines, [early])).toThrow(/as remembered/);
      expect(check(lines, [early, head])).toEqual(head);
    }
  });

  test("of two heads after as many entries one is a lie", () => {
    const lie = { count: head.count, hash: "00".repeat(32) };
    expect(() => check(lines, [head, lie])).toThrow(/as remembered/);
  });

  test("another owner's log is not this one's", () => {
    expect(() => checkChain(lines, { owner: "device ward-7" })).toThrow(/line 1/);
  });

  test("an entry is bounded, whatever is noted", () => {
    const long = "x".repeat(10_000);
    const detail = Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`${at} ${long}`, long]));
    const { lines } = written([{ actor: long, what: long, subject: long, detail }]);
    expect(lines[0]!.length).toBeLessThan(9_000);
    expect(check(lines).count).toBe(1);
  });
});

test("any notes are read back, and any one edit of the text is found", () => {
  const text = fc.string({ maxLength: 30, unit: "grapheme" });
  const note = fc.record({
    actor: text,
    what: text,
    subject: text,
    detail: fc.dictionary(text, fc.oneof(text, fc.integer(), fc.boolean()), { maxKeys: 3 }),
  });
  const edit = fc.record({ at: fc.nat(), remove: fc.nat(3), put: fc.string({ maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(note, { minLength: 1, maxLength: 5 }), edit, (notes, { at, remove, put }) => {
      const { lines, head } = written(notes);
      expect(check(lines)).toEqual(head);
      const whole = lines.join("\n");
      const from = at % (whole.length + 1);
      const changed = whole.slice(0, from) + put + whole.slice(from + remove);
      if (changed === whole) return;
      expect(() => check(changed.split("\n"), [head])).toThrow(/audit/);
    }),
    { numRuns: 300 },
  );
});
