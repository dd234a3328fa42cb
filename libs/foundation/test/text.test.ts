import { expect, test } from "vitest";
import { printable, printableJson, printableLines, shortened } from "../src/text.ts";

const NASTY = "\u001b[2Jred\u009b31m\r\n\u007f\u202eevil\u2066\u2028\u0000end";
const HARMLESS = "Grüße, ½ von 3 — 東京 🐧 שלום";

test("what a terminal would obey is replaced, and other text stays", () => {
  expect(printable(NASTY)).toBe("�[2Jred�31m����evil���end");
  expect(printable(HARMLESS)).toBe(HARMLESS);
  expect(printableLines("a\n\tb\r\u001bc")).toBe("a\n\tb��c");
});

test("cut text holds no half of a character", () => {
  expect(printable("ab🐧", 3)).toBe("ab�");
  expect(shortened("ab🐧cd", 4)).toBe("ab…");
  expect(shortened("ab🐧", 4)).toBe("ab🐧");
  expect(shortened("abcde", 4)).toBe("abc…");
});

test("JSON stays the same value", () => {
  const json = printableJson(JSON.stringify({ said: NASTY }));
  expect(printable(json)).toBe(json);
  expect(JSON.parse(json)).toEqual({ said: NASTY });
});
