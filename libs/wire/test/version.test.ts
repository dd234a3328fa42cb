import { readFileSync } from "node:fs";
import type { Fault } from "@tutti/foundation/fault";
import { describe, expect, test } from "vitest";
import { mustUnderstand, VERSION } from "../src/version.ts";

const code = (theirs: string, ours: string) => {
  try {
    mustUnderstand("the device", theirs, ours);
    return "fine";
  } catch (fault) {
    return (fault as Fault).code;
  }
};

describe("versions that differ", () => {
  test("one minor back or ahead understand each other, further ones are refused by type", () => {
    const seen = ["0.3.9", "0.4.0", "0.5.2", "0.6.0-next.1", "0.7.0", "1.5.0"].map((v) => code(v, "0.5.0"));
    expect(seen).toEqual(["unsupported", "fine", "fine", "fine", "unsupported", "unsupported"]);
  });

  test("whoever says none is from before versions were told", () => {
    expect([code("", "0.1.0"), code("", "0.2.0"), code("", "0.3.0")]).toEqual([
      "fine",
      "fine",
      "unsupported",
    ]);
  });

  test("what is no version is a bad message, whatever it holds", () => {
    for (const text of ["1", "v0.1.0", "0.1", "0.1.0 ", "1e3.0.0", "0.1.0-\n", "9".repeat(5000)])
      expect(code(text, "0.1.0"), text).toBe("bad-message");
  });

  test("says who should update", () => {
    const said = (theirs: string) => {
      try {
        mustUnderstand("the device", theirs, "0.5.0");
      } catch (fault) {
        return (fault as Fault).detail.todo;
      }
    };
    expect([said("0.1.0"), said("0.9.0")]).toEqual(["Update the device", "Update the side that has 0.5.0"]);
  });
});

test("the version that is told is the packages' own", () => {
  for (const room of ["apps/client-sdk", "apps/coordinator", "apps/cli", "libs/wire"]) {
    const { version } = JSON.parse(
      readFileSync(new URL(`../../../${room}/package.json`, import.meta.url), "utf8"),
    );
    expect(version, room).toBe(VERSION);
  }
});
