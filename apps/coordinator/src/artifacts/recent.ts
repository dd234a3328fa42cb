import { Fault } from "@tutti/foundation/fault";
import type { Artifacts } from "../artifacts.ts";

/** Larger ones are read from where they are: the disk is not what their transfer waits for. */
const SMALL_BYTES = 256 << 10;
const MOST = 16;

/**
 * The same artifacts; the small ones that devices fetch, as all of a round do with its release, are read and
 * checked once and then sent from memory. What a name stands for never changes, so only removal ends it.
 */
export function rememberSmall(artifacts: Artifacts): Artifacts {
  const recent = new Map<string, Promise<Uint8Array | null>>();
  const small = (sha256: string): Promise<Uint8Array | null> => {
    const known = recent.get(sha256);
    if (known) return known;
    const reading = readSmall(artifacts, sha256);
    recent.set(sha256, reading);
    // A large one, one that is not there, one that does not read: the next look is another.
    const forget = () => recent.get(sha256) === reading && recent.delete(sha256);
    reading.then((bytes) => bytes === null && forget(), forget);
    const [oldest] = recent.keys();
    if (recent.size > MOST && oldest !== undefined) recent.delete(oldest);
    return reading;
  };
  return {
    ...artifacts,
    size: async (sha256) => (await small(sha256))?.length ?? (await artifacts.size(sha256)),
    async *stream(sha256, offset) {
      const bytes = await small(sha256);
      if (bytes && offset >= 0 && offset <= bytes.length) {
        if (offset < bytes.length) yield bytes.subarray(offset);
      } else yield* artifacts.stream(sha256, offset);
    },
    async remove(sha256) {
      recent.delete(sha256);
      await artifacts.remove(sha256);
      recent.delete(sha256);
    },
  };
}

/** Null for one that is large, or that the disk changed: how that is told is not for here to say. */
async function readSmall(artifacts: Artifacts, sha256: string): Promise<Uint8Array | null> {
  if ((await artifacts.size(sha256)) > SMALL_BYTES) return null;
  try {
    return await artifacts.read(sha256);
  } catch (fault) {
    if (fault instanceof Fault) return null;
    throw fault;
  }
}
