import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hex } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { ReleasesReplySchema, RunStatusSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { federation, NOW_S, releaseOf, runOf } from "../../client-sdk/test/fixture.ts";
import { prepared } from "../../client-sdk/test/mlp.ts";
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

test.each([
  ["an empty run.json", ""],
  ["the beginning of a run.json", '{\n  "plan": {\n    "version": 1'],
  ["files beside their places", undefined],
])("what a full disk or a kill left of a save, %s, is no other run's", async (_, text) => {
  if (text !== undefined) writeFileSync(join(folder, "run.json"), text);
  mkdirSync(join(folder, "adapter"));
  writeFileSync(join(folder, "adapter", ".0123456789abcdef.new"), "");
  await expect(saveRelease(link().admin, { run, folder, authority })).rejects.toMatchObject({
    code: "not-found",
  });
  writeFileSync(join(folder, "merged.onnx"), "of whom?");
  await expect(saveRelease(link().admin, { run, folder, authority })).rejects.toMatchObject({
    code: "conflict",
  });
});

test("a disk that says no to one file gets none of them; as a storage error, not as a bug", async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: NOW_S * 1000 });
  try {
    const fed = federation();
    const { plan, base, initial } = prepared();
    const own = runOf(plan);
    const artifacts = new Map([base, initial].map((bytes) => [sha256Hex(bytes), bytes]));
    const manifest = signRelease(releaseOf(plan, own), fed.coordinator);
    const admin = {
      releases: async () =>
        create(ReleasesReplySchema, { manifests: [manifest], plan: signPlan(plan, fed.owner) }),
      status: async () => create(RunStatusSchema, { run: own }),
      fetch: async function* ({ sha256 }: { sha256: Uint8Array }) {
        yield { data: artifacts.get(hex(sha256))! };
      },
    } as unknown as AdminLink;
    const save = (to: string) => saveRelease(admin, { run: own, folder: to, authority: fed.authority });
    const out = join(folder, "out");
    // Its place is taken by what no file can replace.
    mkdirSync(join(out, "adapter", "adapter_config.json"), { recursive: true });
    writeFileSync(join(out, "run.json"), JSON.stringify({ run: own }));
    await expect(save(out)).rejects.toMatchObject({ code: "conflict" });
    expect(readdirSync(out).sort()).toEqual(["adapter", "run.json"]);
    expect(readFileSync(join(out, "run.json"), "utf8")).toBe(JSON.stringify({ run: own }));
    // No folder can be made below a file.
    const blocked = join(folder, "blocked");
    mkdirSync(blocked);
    writeFileSync(join(blocked, "run.json"), JSON.stringify({ run: own }));
    writeFileSync(join(blocked, "adapter"), "");
    await expect(save(blocked)).rejects.toMatchObject({ code: "storage" });
    expect(readdirSync(blocked).sort()).toEqual(["adapter", "run.json"]);
    rmSync(out, { recursive: true });
    await save(out);
    await save(out);
    expect(readdirSync(out).sort()).toEqual([
      "adapter",
      "adapter.safetensors",
      "manifest.json",
      "merged.onnx",
      "run.json",
    ]);
  } finally {
    vi.useRealTimers();
  }
});
