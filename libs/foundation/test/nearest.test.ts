import { expect, test } from "vitest";
import { nearest } from "../src/nearest.ts";

test.each([
  ["conections", "connections"], // left out
  ["connectionss", "connections"], // added
  ["cannections", "connections"], // another
  ["levle", "level"], // swapped
  ["PORT", "port"], // its case
  ["prt", "port"],
  ["x", undefined],
  ["colour", undefined],
  ["", undefined],
])("%s is meant for %s", (written, meant) => {
  expect(nearest(written, ["connections", "connectionsPerDevice", "level", "port"])).toBe(meant);
});

test("of a long name only the beginning is looked at", () => {
  expect(nearest("a".repeat(1_000_000), ["a".repeat(64)])).toBe("a".repeat(64));
});
