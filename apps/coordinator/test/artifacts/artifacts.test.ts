import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concat } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { CHUNK_BYTES } from "@tutti/wire/rpc";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Artifacts, openArtifacts } from "../../src/artifacts.ts";
import { armFailpoints } from "../../src/failpoint.ts";

let parent: string;
let folder: string;
let artifacts: Artifacts;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "tutti-artifacts-"));
  folder = join(parent, "artifacts");
  artifacts = openArtifacts(folder);
});
afterEach(() => rm(parent, { recursive: true, force: true }));

async function* pieces(...all: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* all;
}

const data = (length: number) => new Uint8Array(length).map((_, at) => at * 31 + (at >> 8));

test("in pieces and back, whole and from any offset", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }),
      fc.nat(),
      async (parts, at) => {
        const whole = concat(...parts);
        const name = sha256Hex(whole);
        await artifacts.put(name, pieces(...parts), whole.length);
        expect(await artifacts.has(name)).toBe(true);
        expect(await artifacts.size(name)).toBe(whole.length);
        expect(await artifacts.read(name)).toEqual(whole);
        const offset = at % (whole.length + 1);
        expect(await collect(artifacts.stream(name, offset))).toEqual(whole.slice(offset));
      },
    ),
    { numRuns: 50 },
  );
});

test("a stream comes in pieces of a chunk", async () => {
  const name = await artifacts.putBytes(data(2 * CHUNK_BYTES + 5));
  const sizes: number[] = [];
  for await (const piece of artifacts.stream(name, 0)) sizes.push(piece.length);
  expect(sizes).toEqual([CHUNK_BYTES, CHUNK_BYTES, 5]);
});

test("other bytes, too few, too many: refused, and nothing is left", async () => {
  const bytes = data(1000);
  const name = sha256Hex(bytes);
  const cases = [
    { chunks: [data(999), Uint8Array.of(1)], total: 1000, code: "refused" },
    { chunks: [data(999)], total: 1000, code: "bad-message" },
    { chunks: [bytes, bytes], total: 1000, code: "bad-message" },
    { chunks: [bytes], total: 999, code: "bad-message" },
    { chunks: [bytes], total: -1, code: "bad-input" },
    { chunks: [bytes], total: Number.NaN, code: "bad-input" },
  ];
  for (const { chunks, total, code } of cases)
    await expect(artifacts.put(name, pieces(...chunks), total)).rejects.toMatchObject({ code });
  expect(await artifacts.has(name)).toBe(false);
  expect(await readdir(folder)).toEqual([]);
});

test("a sender that stops in the middle leaves nothing, and its own reason stands", async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield data(10);
    throw new Fault("cancelled", "the client went");
  }
  await expect(artifacts.put(sha256Hex(data(20)), broken(), 20)).rejects.toMatchObject({ code: "cancelled" });
  expect(await readdir(folder)).toEqual([]);
});

test("bytes after the last announced one are not read", async () => {
  let asked = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) {
      asked += 1;
      yield data(100);
    }
  }
  await expect(artifacts.put(sha256Hex(data(20)), endless(), 250)).rejects.toMatchObject({
    code: "bad-message",
  });
  expect(asked).toBe(3);
});

test("the same file twice at once, and again: one file, both told so", async () => {
  const bytes = data(100_000);
  const [a, b] = await Promise.all([artifacts.putBytes(bytes), artifacts.putBytes(bytes)]);
  expect(a).toBe(b);
  await artifacts.put(a, pieces(), bytes.length);
  expect(await readdir(folder)).toEqual([a]);
});

test("a name that is no hash never reaches the file system", async () => {
  await writeFile(join(parent, "secret"), "x");
  for (const name of ["../secret", "..", "", "A".repeat(64), `${"a".repeat(64)}/`]) {
    await expect(artifacts.has(name)).rejects.toMatchObject({ code: "bad-input" });
    await expect(artifacts.read(name)).rejects.toMatchObject({ code: "bad-input" });
    expect(() => artifacts.stream(name, 0)).toThrow(/64/);
  }
});

test("absent is not-found; an offset past the end is misuse", async () => {
  const absent = "0".repeat(64);
  await expect(artifacts.read(absent)).rejects.toMatchObject({ code: "not-found" });
  await expect(artifacts.size(absent)).rejects.toMatchObject({ code: "not-found" });
  await expect(collect(artifacts.stream(absent, 0))).rejects.toMatchObject({ code: "not-found" });
  const name = await artifacts.putBytes(data(3));
  for (const offset of [4, -1, 0.5])
    await expect(collect(artifacts.stream(name, offset))).rejects.toThrow(/offset/);
});

test("a bit that flipped on disk is found when the file is read", async () => {
  const bytes = data(1000);
  const name = await artifacts.putBytes(bytes);
  bytes[500] = bytes[500]! ^ 1;
  await writeFile(join(folder, name), bytes);
  await expect(artifacts.read(name)).rejects.toMatchObject({ code: "storage" });
});

test("what a killed process left half-written is never found and is removed an hour later", async () => {
  const bytes = data(100);
  const name = sha256Hex(bytes);
  await mkdir(folder, { recursive: true });
  const part = `${name}.0011aabbccdd.part`;
  await writeFile(join(folder, part), bytes.subarray(0, 50));
  const HOUR_MS = 3_600_000;
  for (const [ageMs, left] of [
    [HOUR_MS - 60_000, [name, part]],
    [HOUR_MS + 60_000, [name]],
  ] as const) {
    const later = openArtifacts(folder, () => Date.now() + ageMs);
    expect(await later.has(name)).toBe(ageMs > HOUR_MS);
    await later.putBytes(bytes);
    expect((await readdir(folder)).sort()).toEqual(left);
  }
});

test("of two coordinators that share the folder, one's first file leaves the other's alone", async () => {
  const [slow, quick] = [data(3000), data(10).fill(1)];
  const other = openArtifacts(folder);
  async function* upload() {
    yield slow.subarray(0, 1000);
    await other.putBytes(quick);
    yield slow.subarray(1000);
  }
  await artifacts.put(sha256Hex(slow), upload(), slow.length);
  expect((await readdir(folder)).sort()).toEqual([sha256Hex(slow), sha256Hex(quick)].sort());
});

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part.slice());
  return concat(...parts);
}

test("a file that the disk changed is mended by putting it again; a whole one is left alone", async () => {
  const bytes = data(1000);
  const name = await artifacts.putBytes(bytes);
  for (const damaged of [data(999), data(1000).fill(7), new Uint8Array()]) {
    await writeFile(join(folder, name), damaged);
    await expect(artifacts.read(name)).rejects.toMatchObject({ code: "storage" });
    await artifacts.put(name, pieces(bytes), bytes.length);
    expect(await artifacts.read(name)).toEqual(bytes);
    expect(await readdir(folder)).toEqual([name]);
  }
  const unread = { [Symbol.asyncIterator]: () => expect.unreachable() } as AsyncIterable<Uint8Array>;
  await artifacts.put(name, unread, bytes.length);
});

test("one whose name was not made durable is not done because it is there", async () => {
  const bytes = data(1000);
  const name = sha256Hex(bytes);
  try {
    armFailpoints({ TUTTI_FAILPOINT: "artifact.renamed=error,artifact.durable=error" });
    for (let tries = 0; tries < 2; tries++) {
      await expect(artifacts.put(name, pieces(bytes), bytes.length)).rejects.toMatchObject({
        code: "storage",
      });
      expect(await artifacts.read(name)).toEqual(bytes);
    }
    await artifacts.put(name, pieces(bytes), bytes.length);
  } finally {
    armFailpoints({});
  }
});

test("a folder that could not be made ready once is made ready at the next put", async () => {
  const bytes = data(10);
  await writeFile(folder, "in the way, as a full disk or a share that is away would be");
  await expect(artifacts.putBytes(bytes)).rejects.toMatchObject({ code: "storage" });
  await rm(folder);
  expect(await artifacts.read(await artifacts.putBytes(bytes))).toEqual(bytes);
});
