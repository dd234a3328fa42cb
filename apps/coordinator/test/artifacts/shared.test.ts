import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256Hex } from "@tutti/foundation/hash";
import fc from "fast-check";
import { S3mini } from "s3mini";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BucketOptions, openBucket } from "../../src/artifacts/bucket.ts";
import { openCache } from "../../src/artifacts/cache.ts";
import { parseCredentials } from "../../src/artifacts/open.ts";
import { sharedArtifacts } from "../../src/artifacts/shared.ts";
import type { Artifacts } from "../../src/artifacts.ts";
import { type Swift, startSwift, whyNoSwift } from "./swift.ts";

const missing = whyNoSwift();
if (missing && process.env.CI === "true") throw new Error(`CI must have an S3 server: ${missing}`);
if (missing) console.warn(`artifacts in a bucket: skipped, ${missing}`);

const CACHE_BYTES = 40 << 20;
const data = (length: number, seed = 0) => new Uint8Array(length).map((_, at) => at * 31 + (at >> 8) + seed);

async function* pieces(...all: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* all;
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

describe.skipIf(missing)("in a bucket of a real S3 server", () => {
  let swift: Swift;
  let parent: string;
  let options: BucketOptions;
  let raw: S3mini;
  let buckets = 0;
  beforeAll(async () => {
    swift = await startSwift();
  }, 90_000);
  afterAll(() => swift?.stop());
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), "tutti-shared-"));
    const { endpoint, credentials } = swift;
    const bucket = `tutti-${++buckets}`;
    options = { endpoint, bucket, region: "us-east-1", prefix: "artifacts/", credentials };
    raw = new S3mini({ ...credentials, endpoint: `${endpoint}/${bucket}`, region: "us-east-1" });
    await raw.createBucket();
  });
  afterEach(() => rm(parent, { recursive: true, force: true }));

  /** One coordinator, with a cache of its own. */
  async function coordinator(name: string, cacheBytes = CACHE_BYTES): Promise<Artifacts> {
    return sharedArtifacts(await openBucket(options), await openCache(join(parent, name), cacheBytes));
  }

  test("what one coordinator put another has, whole and from any offset", async () => {
    const one = await coordinator("one");
    const other = await coordinator("other");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.nat(), async (bytes, at) => {
        const name = sha256Hex(bytes);
        await one.put(name, pieces(bytes.subarray(0, 7), bytes.subarray(7)), bytes.length);
        expect(await other.has(name)).toBe(true);
        expect(await other.size(name)).toBe(bytes.length);
        const offset = at % (bytes.length + 1);
        expect(await collect(other.stream(name, offset))).toEqual(bytes.slice(offset));
        expect(await other.read(name)).toEqual(bytes);
      }),
      { numRuns: 10 },
    );
  });

  test("one of many parts comes back the same", async () => {
    const bytes = data((33 << 20) + 5);
    const name = await (await coordinator("one")).putBytes(bytes);
    const back = await collect((await coordinator("other")).stream(name, 0));
    expect(sha256Hex(back)).toBe(name);
    expect((await raw.listMultipartUploads()) as object).not.toHaveProperty("error");
  }, 60_000);

  test("other bytes than the name says reach no bucket", async () => {
    const one = await coordinator("one");
    const name = sha256Hex(data(100));
    await expect(one.put(name, pieces(data(100, 1)), 100)).rejects.toMatchObject({ code: "refused" });
    await expect(one.put(name, pieces(data(99)), 100)).rejects.toMatchObject({ code: "bad-message" });
    expect(await raw.listObjects()).toEqual([]);
    expect(await one.has(name)).toBe(false);
    await expect(one.read(name)).rejects.toMatchObject({ code: "not-found" });
    await expect(one.size(name)).rejects.toMatchObject({ code: "not-found" });
    await expect(one.has("../secret")).rejects.toMatchObject({ code: "bad-input" });
  });

  test("an object that changed is refused by name, and putting it again mends it", async () => {
    const name = await (await coordinator("one")).putBytes(data(100));
    await raw.putObject(`artifacts/${name}`, data(100, 1));
    const other = await coordinator("other");
    await expect(other.read(name)).rejects.toMatchObject({ code: "storage" });
    await other.putBytes(data(100));
    expect(await (await coordinator("third")).read(name)).toEqual(data(100));
  });

  test("a cached file that the disk changed is fetched again", async () => {
    const one = await coordinator("one");
    const name = await one.putBytes(data(100));
    await writeFile(join(parent, "one", name), data(100, 1));
    expect(await one.read(name)).toEqual(data(100));
  });

  test("many who ask at once cause one download; the cache stays within its bytes", async () => {
    const names: string[] = [];
    const one = await coordinator("one");
    for (let at = 0; at < 5; at++) names.push(await one.putBytes(data(1000, at)));
    const real = await openBucket(options);
    let downloads = 0;
    const counted = {
      ...real,
      stream: (...of: Parameters<typeof real.stream>) => {
        downloads += 1;
        return real.stream(...of);
      },
    };
    const other = sharedArtifacts(counted, await openCache(join(parent, "other"), 2500));
    await Promise.all(Array.from({ length: 8 }, () => other.read(names[0]!)));
    expect(downloads).toBe(1);
    for (const [at, name] of names.entries()) expect(await other.read(name)).toEqual(data(1000, at));
    expect(downloads).toBe(5);
    expect((await readdir(join(parent, "other"))).sort()).toEqual(names.slice(3).sort());
    // One that is being read is not forgotten under its reader.
    const slow = other.stream(names[3]!, 0)[Symbol.asyncIterator]();
    await slow.next();
    for (const name of names.slice(0, 3)) await other.read(name);
    expect(await readdir(join(parent, "other"))).toContain(names[3]);
    await slow.return?.();
  });

  test("no bucket, wrong credentials, no server: by name, and the secret is not told", async () => {
    await expect(openBucket({ ...options, bucket: "tutti-none" })).rejects.toMatchObject({
      code: "not-found",
    });
    const credentials = { ...options.credentials, secretAccessKey: "not-the-secret" };
    const refused = await openBucket({ ...options, credentials }).catch((fault: Error) => fault);
    expect(refused).toMatchObject({ code: "refused" });
    expect(String(refused)).not.toContain("not-the-secret");
    await expect(openBucket({ ...options, endpoint: "http://127.0.0.1:1" })).rejects.toMatchObject({
      code: "storage",
    });
  });
});

test("a service that is busy is asked again, and given up by name", async () => {
  let asked = 0;
  const busy = createServer((_request, response) => {
    asked += 1;
    response.writeHead(503).end();
  });
  await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(busy.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: "me", secretAccessKey: "hush" };
  const options = { endpoint, bucket: "tutti", region: "us-east-1", prefix: "", credentials };
  await expect(openBucket(options)).rejects.toMatchObject({ code: "storage" });
  expect(asked).toBe(6);
  await new Promise((resolve) => busy.close(resolve));
});

describe("credentials", () => {
  test("a file with anything else in it is refused, and nothing of it is quoted", () => {
    const good = { accessKeyId: "me", secretAccessKey: "hush-hush" };
    expect(parseCredentials(JSON.stringify(good))).toEqual(good);
    const bad = [
      "",
      "hush-hush",
      "null",
      "[]",
      '"hush-hush"',
      JSON.stringify({ ...good, more: "hush-hush" }),
    ];
    for (const text of [...bad, JSON.stringify({ accessKeyId: "me", secretAccessKey: "" })]) {
      const fault = (() => {
        try {
          return parseCredentials(text);
        } catch (error) {
          return error;
        }
      })();
      expect(fault).toMatchObject({ code: "bad-input" });
      expect(String(fault)).not.toContain("hush");
    }
  });
});
