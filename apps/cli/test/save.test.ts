import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ReleasesReplySchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AdminLink } from "../src/owner.ts";
import { saveRelease } from "../src/save.ts";

const [run, other] = ["ab".repeat(32), "cd".repeat(32)];
const authority = new Uint8Array(32);
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tutti-save-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A coordinator without a release: being asked is as far as it goes. */
function link() {
  let asked = 0;
  const releases = async () => {
    asked += 1;
    return create(ReleasesReplySchema, {});
  };
  return { admin: { releases } as unknown as AdminLink, asked: () => asked };
}

test.each([
  ["run.json", JSON.stringify({ run: other }), "a release of run cdcdcdcdcdcd"],
  ["run.json", "null", "a run.json of no run"],
  ["run.json", "{", "a run.json of no run"],
  ["merged.onnx", "bytes", "a merged.onnx of no run"],
])("a folder whose %s is %s is refused as it is", async (name, text, got) => {
  writeFileSync(join(folder, name), text);
  const { admin, asked } = link();
  const expected = expect.stringContaining("run abababababab");
  await expect(saveRelease(admin, { run, folder, authority })).rejects.toMatchObject({
    code: "conflict",
    what: `${folder}/`,
    detail: { expected, got, todo: expect.stringContaining("--out") },
  });
  expect(asked()).toBe(0);
  expect(readdirSync(folder)).toEqual([name]);
  expect(readFileSync(join(folder, name), "utf8")).toBe(text);
});

test("an empty folder, a new one, and one of the same run are not", async () => {
  const saves = async (to: string) => {
    const { admin, asked } = link();
    const none = { code: "not-found", what: expect.stringContaining("a release of run") };
    await expect(saveRelease(admin, { run, folder: to, authority })).rejects.toMatchObject(none);
    expect(asked()).toBe(1);
  };
  await saves(folder);
  await saves(join(folder, "new"));
  writeFileSync(join(folder, "run.json"), JSON.stringify({ run }));
  writeFileSync(join(folder, "manifest.json"), "{}");
  await saves(folder);
  const file = join(folder, "manifest.json");
  await expect(saveRelease(link().admin, { run, folder: file, authority })).rejects.toMatchObject({
    code: "conflict",
  });
});
