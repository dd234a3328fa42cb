import { describe, expect, test } from "vitest";
import { Checker, checkChain, type Head, hashIn, lineAfter, startOf } from "../src/chain.ts";
import type { Note } from "../src/entry.ts";
import { removalNote } from "../src/removal.ts";

const OWNER = "coordinator";

/** A log, written and shortened as a coordinator does it, or not quite so. */
class Log {
  lines: string[] = [];
  readonly all: string[] = [];
  head: Head = startOf(OWNER);
  readonly heads: Head[] = [this.head];

  add(note: Note): void {
    const { line, head } = lineAfter(this.head, note, 1_700_000_000_000 + this.head.count);
    this.lines.push(line);
    this.all.push(line);
    this.heads.push(head);
    this.head = head;
  }

  go(count: number): this {
    for (let at = 0; at < count; at++) this.add({ actor: "owner", what: "artifact.put", subject: "ab" });
    return this;
  }

  get first(): number {
    return this.head.count - this.lines.length;
  }

  cut(count: number): this {
    this.lines.splice(0, count);
    return this;
  }

  /** Removes so many and notes it; `says` differs from that where somebody lies. */
  remove(count: number, says: { from?: number; to?: number; hash?: string } = {}): this {
    const from = this.first;
    const hash = hashIn(this.lines[count - 1]!)!;
    this.cut(count);
    this.add(removalNote({ from, to: from + count, hash, ...says }, this.lines.length));
    return this;
  }

  check(remembered: readonly Head[] = []): Checker {
    const checker = new Checker(OWNER, remembered);
    for (const line of this.lines) checker.take(line);
    checker.end();
    return checker;
  }
}

const log = () => new Log();

describe("a log whose beginning was removed", () => {
  test("is whole where an entry says so, time after time", () => {
    const { begins, removed, head } = log().go(10).remove(4).go(3).remove(5).check();
    expect([begins.count, head.count]).toEqual([9, 15]);
    expect(removed).toMatchObject({ from: 4, to: 9, at: expect.stringMatching(/^2023-11-14T/) });
  });

  test("is refused where none does, also where more went than was said", () => {
    expect(() => log().go(10).cut(1).check()).toThrow(/its beginning: .*first 1 were removed, got none/);
    expect(() => log().go(10).remove(4).cut(2).check()).toThrow(/first 6 were removed, got none/);
    // The note itself went.
    expect(() => log().go(9).remove(4).go(3).cut(6).check()).toThrow(/first 10 were removed, got none/);
  });

  test("is refused where a removal in between was kept quiet", () => {
    const quiet = log().go(10).remove(2).cut(3).remove(1);
    expect(() => quiet.check()).toThrow(/a removal from entry 2 on, got from 5 on/);
    expect(() => log().go(4).remove(2, { from: 1 }).check()).not.toThrow();
    // With the older part at hand that one is found too.
    const whole = log().go(4).remove(2, { from: 1 });
    expect(() => checkChain(whole.all, { owner: OWNER })).toThrow(/a removal from entry 0 on, got from 1 on/);
  });

  test("is refused where the note names another hash, or what cannot be", () => {
    expect(() =>
      log()
        .go(4)
        .remove(2, { hash: "00".repeat(32) })
        .check(),
    ).toThrow(/as noted/);
    for (const says of [{ to: 99 }, { to: 0 }, { from: -1 }, { to: 1.5 }])
      expect(() => log().go(4).remove(2, says).check()).toThrow(/a removal of entries before it/);
  });

  test("is held to heads that are still there or noted; of others it says how many", () => {
    const one = log().go(10).remove(4).go(3).remove(3);
    const { heads } = one;
    expect(one.check(heads.slice(1)).unreachable).toBe(5);
    // Of before its beginning only the one after the first removal is named.
    const lie = (count: number): Head => ({ count, hash: "00".repeat(32) });
    for (const count of [4, 7, 8, 15])
      expect(() => one.check([lie(count)]), `${count}`).toThrow(/remembered/);
    expect(() => one.check([lie(3)])).not.toThrow();
    expect(() => one.check([lie(16)])).toThrow(/at least 16 entries/);
  });

  test("and its older part are one whole log together", () => {
    const one = log().go(10).remove(4).go(3).remove(5);
    const whole = new Checker(OWNER, one.heads.slice(1));
    for (const line of one.all) whole.take(line);
    expect([whole.end(), whole.begins.count, whole.unreachable]).toEqual([one.head, 0, 0]);
    // Each part by itself, wherever it begins.
    const part = new Checker(OWNER, [], "elsewhere");
    for (const line of one.all.slice(2, 7)) part.take(line);
    expect([part.begins, part.end()]).toEqual([one.heads[2], one.heads[7]]);
  });
});
