import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concat } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { afterEach, beforeEach, expect, test } from "vitest";
import { rememberSmall } from "../../src/artifacts/recent.ts";
import { type Artifacts, openArtifacts } from "../../src/artifacts.ts";

let folder: string;
let artifacts: Artifacts;
let reads: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-recent-"));
  const under = openArtifacts(folder);
  reads = [];
  artifacts = rememberSmall({
    ...under,
    read: (name) => {
      reads.push(name);
      return under.read(name);
    },
  });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const data = (length: number, salt = 0) => new Uint8Array(length).map((_, at) => at * 31 + salt);

async function streamed(name: string, offset = 0): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of artifacts.stream(name, offset)) parts.push(part);
  return concat(...parts);
}

test("a small one is read once, however many fetch it from wherever", async () => {
  const name = await artifacts.putBytes(data(1000));
  const all = await Promise.all([0, 1, 999, 1000].map((offset) => streamed(name, offset)));
  expect(all).toEqual([0, 1, 999, 1000].map((offset) => data(1000).subarray(offset)));
  expect(await artifacts.size(name)).toBe(1000);
  expect(reads).toEqual([name]);
  await expect(streamed(name, 1001)).rejects.toThrow();
});

test("a large one is not kept, and only so many small ones are", async () => {
  const large = await artifacts.putBytes(data(300_000));
  expect((await streamed(large)).length).toBe(300_000);
  expect(reads).toEqual([]);
  const names: string[] = [];
  for (let i = 0; i < 20; i++) names.push(await artifacts.putBytes(data(100, i)));
  for (const name of [...names, names[0]!]) expect(sha256Hex(await streamed(name))).toBe(name);
  expect(reads).toEqual([...names, names[0]]);
});

test("one that was removed is gone, and one that came later is found", async () => {
  const name = sha256Hex(data(10));
  await expect(artifacts.size(name)).rejects.toMatchObject({ code: "not-found" });
  await artifacts.putBytes(data(10));
  expect(await streamed(name)).toEqual(data(10));
  await artifacts.remove(name);
  await expect(streamed(name)).rejects.toMatchObject({ code: "not-found" });
});

test("one that the disk changed goes out as it is, and a good copy takes its place", async () => {
  const name = await artifacts.putBytes(data(10));
  await writeFile(join(folder, name), data(9));
  expect(await streamed(name)).toEqual(data(9));
  await artifacts.putBytes(data(10));
  expect(await streamed(name)).toEqual(data(10));
});
