import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Artifacts, isName, openArtifacts } from "../artifacts.ts";

/** A folder of artifacts that forgets those not used of late, so that it stays within its bytes. */
export type Cache = Omit<Artifacts, "putBytes" | "size"> & {
  /** Keeps one here, or one that is about to come, until the returned function is called. */
  hold(sha256: string): () => void;
  /** Keeps it while `body` works. */
  holding<T>(sha256: string, body: () => Promise<T>): Promise<T>;
  fileOf(sha256: string): string;
};

/** Files in use may take it beyond `maxBytes`. */
export async function openCache(folder: string, maxBytes: number): Promise<Cache> {
  const kept = openArtifacts(folder);
  const holds = new Holds();
  // In the order of their last use.
  const sizes = await scan(folder);

  async function used(sha256: string, bytes: number): Promise<void> {
    sizes.delete(sha256);
    sizes.set(sha256, bytes);
    let total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const [name, size] of [...sizes]) {
      if (total <= maxBytes) return;
      if (holds.has(name)) continue;
      sizes.delete(name);
      total -= size;
      await rm(join(folder, name), { force: true });
    }
  }

  async function holding<T>(sha256: string, body: () => Promise<T>): Promise<T> {
    const release = holds.take(sha256);
    try {
      return await body();
    } finally {
      release();
    }
  }

  return {
    put: (sha256, chunks, totalBytes) =>
      holding(sha256, async () => {
        await kept.put(sha256, chunks, totalBytes);
        await used(sha256, totalBytes);
      }),
    has: kept.has,
    async read(sha256) {
      const bytes = await kept.read(sha256);
      await used(sha256, bytes.length);
      return bytes;
    },
    stream: kept.stream,
    hold: (sha256) => holds.take(sha256),
    holding,
    fileOf: (sha256) => join(folder, sha256),
    async remove(sha256) {
      sizes.delete(sha256);
      await kept.remove(sha256);
    },
  };
}

/** How many use each name. */
class Holds {
  readonly #counts = new Map<string, number>();

  has(name: string): boolean {
    return this.#counts.has(name);
  }

  take(name: string): () => void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#counts.get(name) ?? 1) - 1;
      if (left > 0) this.#counts.set(name, left);
      else this.#counts.delete(name);
    };
  }
}

/** What an earlier process left, the least recently written first. */
async function scan(folder: string): Promise<Map<string, number>> {
  const names = (await readdir(folder).catch(() => [])).filter(isName);
  const files = await Promise.all(
    names.map(async (name) => ({ name, about: await stat(join(folder, name)) })),
  );
  files.sort((a, b) => a.about.mtimeMs - b.about.mtimeMs);
  return new Map(files.map(({ name, about }) => [name, about.size]));
}
