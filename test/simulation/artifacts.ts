import type { Artifacts } from "@tutti/coordinator/artifacts";
import { concat } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Disk } from "./disk.ts";

/** Small, so that a download has several pieces and can be cut between two. */
const PIECE_BYTES = 600;

/** What the artifacts' folder durably holds. */
export type Shelf = Map<string, Uint8Array>;

/** One process's way to it. */
export function openModelArtifacts(shelf: Shelf, disk: Disk): Artifacts {
  const held = (sha256: string): Uint8Array => {
    const bytes = shelf.get(sha256);
    if (bytes) return bytes;
    throw new Fault("not-found", `artifact ${sha256.slice(0, 12)}`);
  };
  const artifacts: Artifacts = {
    async put(sha256, chunks, totalBytes) {
      if (shelf.has(sha256)) return;
      const parts: Uint8Array[] = [];
      for await (const chunk of chunks) parts.push(chunk);
      const bytes = concat(...parts);
      if (bytes.length !== totalBytes) throw new Fault("bad-message", "artifact", { got: "another size" });
      if (sha256Hex(bytes) !== sha256) throw new Fault("refused", "artifact", { got: "another hash" });
      await disk.write("writing an artifact", () => void shelf.set(sha256, bytes));
    },
    async putBytes(bytes) {
      const [copy, sha256] = [bytes.slice(), sha256Hex(bytes)];
      if (!shelf.has(sha256)) await disk.write("writing an artifact", () => void shelf.set(sha256, copy));
      return sha256;
    },
    has: async (sha256) => shelf.has(sha256),
    read: (sha256) => disk.read("reading an artifact", () => held(sha256).slice()),
    async *stream(sha256, offset) {
      const bytes = await disk.read("reading an artifact", () => held(sha256));
      for (let at = offset; at < bytes.length; at += PIECE_BYTES)
        yield bytes.slice(at, Math.min(bytes.length, at + PIECE_BYTES));
    },
    size: async (sha256) => held(sha256).length,
    remove: (sha256) => disk.write("removing an artifact", () => void shelf.delete(sha256)),
  };
  return artifacts;
}
