import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { checkInteger } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { CHUNK_BYTES } from "@tutti/wire/rpc";
import { failpoint } from "./failpoint.ts";
import { makeFolder, syncFolder } from "./folder/files.ts";

/** Files named by the SHA-256 of what they hold (hex): models, adapters, strategy states. */
export type Artifacts = {
  /**
   * Takes a file in pieces; durable, and under its name, when this resolves. One that is there already and
   * whole is left alone, and the pieces unread; one that the disk changed is replaced.
   * @throws Fault("refused") for other bytes than the name says; Fault("bad-message") for another
   * size.
   */
  put(sha256: string, chunks: AsyncIterable<Uint8Array>, totalBytes: number): Promise<void>;
  /** Returns the name of the bytes. */
  putBytes(bytes: Uint8Array): Promise<string>;
  has(sha256: string): Promise<boolean>;
  /**
   * The whole file, checked against its name. @throws Fault("not-found"); Fault("storage") if the disk
   * changed it.
   */
  read(sha256: string): Promise<Uint8Array>;
  /** From an offset on, in pieces of CHUNK_BYTES; who reads them checks the hash. */
  stream(sha256: string, offset: number): AsyncIterable<Uint8Array>;
  /** Bytes. */
  size(sha256: string): Promise<number>;
  /** Gone when this resolves, though it was not there; whoever reads it meanwhile reads it to its end. */
  remove(sha256: string): Promise<void>;
};

/** Above any base model that a device could hold. */
export const MAX_ARTIFACT_BYTES = 64 * 2 ** 30;
/** What is not whole yet; never a name that `has` would find. */
const PART = ".part";
/** Half a file that nobody wrote to for so long is a crash's; any other may be one that is being written. */
const ABANDONED_MS = 3_600_000;

/**
 * Opens a folder of artifacts, made at the first use; files that a crash left half-written an hour ago or
 * more are removed then. `nowMs`: the wall clock.
 */
export function openArtifacts(folder: string, nowMs: () => number = Date.now): Artifacts {
  let ready: Promise<void> | undefined;
  const prepared = () => {
    // A passing error, as of a full disk, is not kept: the next put tries again.
    ready ??= prepare(folder, nowMs()).catch((fault) => {
      ready = undefined;
      throw fault;
    });
    return ready;
  };
  const fileOf = (sha256: string) => join(folder, checkName(sha256));
  const artifacts: Artifacts = {
    async put(sha256, chunks, totalBytes) {
      const target = fileOf(sha256);
      checkInteger("artifact size", totalBytes, [0, MAX_ARTIFACT_BYTES]);
      await prepared();
      // A try before this one may have failed between its name and its name's being durable.
      if (await isWhole(target, sha256)) return await guarded("writing an artifact", () => synced(folder));
      const part = `${target}.${randomBytes(6).toString("hex")}${PART}`;
      await guarded("writing an artifact", async () => {
        try {
          await receive(part, chunks, { sha256, totalBytes });
          await rename(part, target);
          failpoint("artifact.renamed");
          await synced(folder);
        } finally {
          await rm(part, { force: true });
        }
      });
    },
    async putBytes(bytes) {
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      await artifacts.put(sha256, once(bytes), bytes.length);
      return sha256;
    },
    has: async (sha256) => (await sizeOf(fileOf(sha256))) !== undefined,
    async read(sha256) {
      const file = fileOf(sha256);
      if (!(await artifacts.has(sha256))) throw absent(sha256);
      const bytes = await guarded("reading an artifact", () => readFile(file));
      const got = createHash("sha256").update(bytes).digest("hex");
      if (got !== sha256)
        throw new Fault("storage", `artifact ${sha256.slice(0, 12)}`, {
          expected: `SHA-256 ${sha256}`,
          got,
          todo: "The file changed on disk: put it again from a good copy",
        });
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    stream: (sha256, offset) => stream(fileOf(sha256), sha256, offset),
    async size(sha256) {
      const bytes = await sizeOf(fileOf(sha256));
      if (bytes === undefined) throw absent(sha256);
      return bytes;
    },
    // Not synced: one that is back after a power cut is removed again.
    remove: (sha256) =>
      guarded("removing an artifact", async () => await rm(fileOf(sha256), { force: true })),
  };
  return artifacts;
}

/** Names in the folder are durable when this resolves. */
async function synced(folder: string): Promise<void> {
  await syncFolder(folder);
  failpoint("artifact.durable");
}

async function prepare(folder: string, nowMs: number): Promise<void> {
  await guarded("preparing the artifacts folder", async () => {
    await makeFolder(folder);
    const left = (await readdir(folder)).filter((name) => name.endsWith(PART));
    await Promise.all(left.map((name) => removeAbandoned(join(folder, name), nowMs)));
    await syncFolder(folder);
  });
}

async function removeAbandoned(part: string, nowMs: number): Promise<void> {
  // Its writer may just have given it its name.
  const touched = await stat(part).catch(() => undefined);
  if (touched && nowMs - touched.mtimeMs >= ABANDONED_MS) await rm(part, { force: true });
}

/** Writes and hashes piece by piece; stops at the first byte too many. */
async function receive(
  part: string,
  chunks: AsyncIterable<Uint8Array>,
  want: { sha256: string; totalBytes: number },
): Promise<void> {
  const hash = createHash("sha256");
  const wrongSize = (got: string) =>
    new Fault("bad-message", "artifact", { expected: `${want.totalBytes} bytes`, got });
  let received = 0;
  const handle = await open(part, "wx", 0o644);
  try {
    failpoint("artifact.begun");
    for await (const chunk of chunks) {
      received += chunk.length;
      if (received > want.totalBytes) throw wrongSize("more");
      hash.update(chunk);
      await handle.writeFile(chunk);
    }
    if (received !== want.totalBytes) throw wrongSize(`${received}`);
    const got = hash.digest("hex");
    if (got !== want.sha256)
      throw new Fault("refused", "artifact", { expected: `SHA-256 ${want.sha256}`, got });
    failpoint("artifact.written");
    await handle.sync();
    failpoint("artifact.synced");
  } finally {
    await handle.close();
  }
}

/** Whether the file is there and holds what its name says. */
async function isWhole(file: string, sha256: string): Promise<boolean> {
  if ((await sizeOf(file)) === undefined) return false;
  return guarded("reading an artifact", async () => {
    const hash = createHash("sha256");
    for await (const piece of createReadStream(file)) hash.update(piece);
    return hash.digest("hex") === sha256;
  });
}

async function* stream(file: string, sha256: string, offset: number): AsyncGenerator<Uint8Array> {
  const total = await sizeOf(file);
  if (total === undefined) throw absent(sha256);
  checkInteger("offset", offset, [0, total]);
  const handle = await open(file, "r");
  try {
    for (let at = offset; at < total; ) {
      const buffer = new Uint8Array(Math.min(CHUNK_BYTES, total - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0)
        throw new Fault("storage", `artifact ${sha256.slice(0, 12)}`, { got: "a cut file" });
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

export function isName(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}

/** A name that is not a hash never reaches a file system or a bucket. */
export function checkName(sha256: string): string {
  if (isName(sha256)) return sha256;
  throw new Fault("bad-input", "artifact name", { expected: "64 lower-case hex digits" });
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Fault("storage", "looking for an artifact", { cause });
  }
}

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

export function absent(sha256: string): Fault {
  return new Fault("not-found", `artifact ${sha256.slice(0, 12)}`);
}

/**
 * Errors of the file system become a Fault("storage"); Faults, and what the caller's own chunks throw as one,
 * pass.
 */
async function guarded<T>(what: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    const got = (cause as NodeJS.ErrnoException).code ?? "an error";
    throw new Fault("storage", what, { got, cause });
  }
}
