import type { Link } from "@tutti/client-sdk/link";
import type { Instruction } from "@tutti/wire/round";
import type { UploadPart } from "@tutti/wire/secagg";

/** Messages of a secure sum, in their order. */
export const STAGES = ["advertise", "share", "upload", "attest", "reveal"] as const;
export type Stage = (typeof STAGES)[number];

/** Who looks on at a device's link; whatever is awaited here holds the device up. */
export type Watch = {
  hear?(word: Instruction): Promise<void>;
  before?(stage: Stage): Promise<void>;
  /** The message was acknowledged. */
  after?(stage: Stage): Promise<void>;
  /** The packed vector, as it is about to leave. */
  uploads?(packed: Uint8Array): Promise<void>;
};

/** The same link, with somebody looking on. */
export function watched(link: Link, watch: Watch): Link {
  const around = async <T>(stage: Stage, send: () => Promise<T>): Promise<T> => {
    await watch.before?.(stage);
    const reply = await send();
    await watch.after?.(stage);
    return reply;
  };
  return {
    ...link,
    listen: async function* (request, signal) {
      for await (const word of link.listen(request, signal)) {
        await watch.hear?.(word);
        yield word;
      }
    },
    advertise: (request, signal) => around("advertise", () => link.advertise(request, signal)),
    share: (request, signal) => around("share", () => link.share(request, signal)),
    upload: async (parts, signal) => {
      const packed = await packedIn(parts);
      if (packed) await watch.uploads?.(packed);
      return await around("upload", () => link.upload(parts, signal));
    },
    attest: (request, signal) => around("attest", () => link.attest(request, signal)),
    reveal: (request, signal) => around("reveal", () => link.reveal(request, signal)),
  };
}

/** A device's upload can be walked more than once. Null for the rest of one that came in part before. */
async function packedIn(parts: AsyncIterable<UploadPart>): Promise<Uint8Array | null> {
  const chunks: Uint8Array[] = [];
  for await (const { part } of parts) {
    if (part.case === "header" && part.value.offset > 0) return null;
    if (part.case === "chunk") chunks.push(part.value);
  }
  return new Uint8Array(Buffer.concat(chunks));
}
