import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { type Artifacts, absent, checkName, once } from "../artifacts.ts";
import type { Bucket } from "./bucket.ts";
import type { Cache } from "./cache.ts";

/** Names remembered: what is asked for again and again is asked of the bucket once. */
const MAX_KNOWN = 4096;

/**
 * Artifacts that several coordinators share in a bucket; each has a cache of those that it served of late. A
 * file is checked against its name in the cache, before the bucket gets it and when it comes back, so that a
 * bucket can lose a file and cannot change one.
 */
export function sharedArtifacts(bucket: Bucket, cache: Cache): Artifacts {
  const behind = new Behind(bucket, cache);
  const artifacts: Artifacts = {
    put: (sha256, chunks, totalBytes) =>
      cache.holding(sha256, async () => {
        await cache.put(sha256, chunks, totalBytes);
        await behind.send(sha256, totalBytes);
      }),
    async putBytes(bytes) {
      const sha256 = sha256Hex(bytes);
      await artifacts.put(sha256, once(bytes), bytes.length);
      return sha256;
    },
    has: async (sha256) => (await behind.size(sha256)) !== undefined,
    read: (sha256) =>
      cache.holding(sha256, async () => {
        // A file that the disk changed is fetched again.
        const here = (await cache.has(sha256)) && (await cache.read(sha256).catch(() => null));
        if (here) return here;
        await behind.bring(sha256);
        return cache.read(sha256);
      }),
    async *stream(sha256, offset) {
      const release = cache.hold(sha256);
      try {
        if (!(await cache.has(sha256))) await behind.bring(sha256);
        yield* cache.stream(sha256, offset);
      } finally {
        release();
      }
    },
    async size(sha256) {
      const bytes = await behind.size(sha256);
      if (bytes === undefined) throw absent(sha256);
      return bytes;
    },
    async remove(sha256) {
      await behind.remove(sha256);
      await cache.remove(sha256);
    },
  };
  return artifacts;
}

/** The bucket as its cache sees it. */
class Behind {
  readonly #bucket: Bucket;
  readonly #cache: Cache;
  readonly #known = new Map<string, number>();
  /** Came back other than they went: whoever puts them next replaces them. */
  readonly #spoilt = new Set<string>();
  readonly #coming = new Map<string, Promise<void>>();

  constructor(bucket: Bucket, cache: Cache) {
    this.#bucket = bucket;
    this.#cache = cache;
  }

  async size(sha256: string): Promise<number | undefined> {
    const bytes = this.#known.get(sha256) ?? (await this.#bucket.size(checkName(sha256)));
    if (bytes !== undefined) this.#know(sha256, bytes);
    return bytes;
  }

  /** What is in the cache, to the bucket, unless it is there. */
  async send(sha256: string, bytes: number): Promise<void> {
    // Asked anew, not remembered: that it is there is what this promises.
    const there = this.#spoilt.has(sha256) ? undefined : await this.#bucket.size(sha256);
    if (there !== bytes) await this.#bucket.put(sha256, this.#cache.fileOf(sha256), bytes);
    this.#spoilt.delete(sha256);
    this.#know(sha256, bytes);
  }

  async remove(sha256: string): Promise<void> {
    this.#known.delete(checkName(sha256));
    await this.#bucket.remove(sha256);
  }

  /** From the bucket into the cache, once though many ask. */
  bring(sha256: string): Promise<void> {
    const under =
      this.#coming.get(sha256) ?? this.#download(sha256).finally(() => this.#coming.delete(sha256));
    this.#coming.set(sha256, under);
    return under;
  }

  async #download(sha256: string): Promise<void> {
    const bytes = await this.size(sha256);
    if (bytes === undefined) throw absent(sha256);
    try {
      await this.#cache.put(sha256, this.#bucket.stream(sha256, bytes), bytes);
    } catch (cause) {
      if (!(cause instanceof Fault) || cause.code !== "refused") throw cause;
      if (this.#spoilt.size >= MAX_KNOWN) this.#spoilt.clear();
      this.#spoilt.add(sha256);
      const todo = "The object changed in the bucket: put it again from a good copy";
      throw new Fault("storage", `artifact ${sha256.slice(0, 12)}`, { ...cause.detail, todo, cause });
    }
  }

  #know(sha256: string, bytes: number): void {
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(sha256, bytes);
  }
}
