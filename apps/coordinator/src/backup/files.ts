import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { makeFolder, syncFolder } from "../folder/files.ts";
import type { ManifestFile } from "./manifest.ts";

/** Writes a file of a backup from its pieces, durable when this resolves; what the manifest says of it. */
export async function writeFile(
  folder: string,
  path: string,
  pieces: AsyncIterable<Uint8Array | string>,
): Promise<ManifestFile> {
  const file = join(folder, path);
  await makeFolder(dirname(file), 0o700);
  const hash = createHash("sha256");
  let bytes = 0;
  const handle = await open(file, "wx", 0o600);
  try {
    for await (const piece of pieces) {
      const data = typeof piece === "string" ? Buffer.from(piece) : piece;
      hash.update(data);
      bytes += data.length;
      await handle.writeFile(data);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { path, bytes, sha256: hash.digest("hex") };
}

/** Makes the names in a folder and in those below it durable. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true }))
    if (entry.isDirectory()) await syncTree(join(folder, entry.name));
  await syncFolder(folder);
}

/** @throws Fault("refused") for a file that is not what the manifest says it is. */
export async function checkFile(folder: string, { path, bytes, sha256 }: ManifestFile): Promise<void> {
  const hash = createHash("sha256");
  let got = 0;
  try {
    for await (const piece of createReadStream(join(folder, path)) as AsyncIterable<Buffer>) {
      hash.update(piece);
      got += piece.length;
    }
  } catch (cause) {
    const { code = "an error" } = cause as NodeJS.ErrnoException;
    throw new Fault("refused", join(folder, path), { expected: "a file of the backup", got: code, cause });
  }
  const found = hash.digest("hex");
  if (got === bytes && found === sha256) return;
  throw new Fault("refused", join(folder, path), {
    expected: `${bytes} bytes of SHA-256 ${sha256}`,
    got: `${got} bytes of ${found}`,
    todo: "The backup was changed or is damaged; take another one",
  });
}
