import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadPartSchema, UploadStatusRequestSchema } from "@tutti/wire/secagg";
import { delayMs, mayPass, type Patience } from "./backoff.ts";
import type { Link } from "./link.ts";

/**
 * One chunk of an upload. A cut costs the one that is under way: on a poor line, smaller ones are sent twice
 * less often.
 */
const UPLOAD_CHUNK_BYTES = 64 << 10;
/** How often the coordinator is asked how much came, so that people can watch a slow upload. */
const ASK_MS = 500;

type UploadLink = Pick<Link, "upload" | "uploadStatus">;
/** How an upload waits between tries, and whom it tells which share of it has come: 0..1. */
export type Way = { readonly patience: Patience; readonly onProgress: (share: number) => void };

type Start = { readonly offset?: number; readonly hash?: Uint8Array };

/** A packed vector as an upload: a header, then chunks from `offset` on. It can be walked again. */
export function uploadParts(
  session: Uint8Array,
  packed: Uint8Array,
  { offset = 0, hash = sha256(packed) }: Start = {},
): AsyncIterable<UploadPart> {
  return {
    async *[Symbol.asyncIterator]() {
      const header = { session, packedBytes: packed.length, sha256: hash, offset };
      yield create(UploadPartSchema, { part: { case: "header", value: header } });
      for (let at = offset; at < packed.length; at += UPLOAD_CHUNK_BYTES) {
        yield create(UploadPartSchema, {
          part: { case: "chunk", value: packed.subarray(at, at + UPLOAD_CHUNK_BYTES) },
        });
      }
    },
  };
}

/**
 * Sends a packed vector, going on behind what the coordinator holds: after a cut within a call, and in each
 * later call. As long as tries get further by a chunk they go on at once, so of those there are no more than
 * chunks; one that does not is the caller's to repeat. Without a way to wait it sends everything, once.
 * @throws Fault("bad-message") for a coordinator that holds more than there is.
 */
export function uploader(session: Uint8Array, packed: Uint8Array) {
  const hash = sha256(packed);
  let tried = false;
  return async (link: UploadLink, signal: AbortSignal, way?: Way): Promise<void> => {
    if (!way) return void (await link.upload(uploadParts(session, packed, { hash }), signal));
    const { onProgress } = way;
    const { clock, jitter } = way.patience;
    const held = async () => {
      const bytes = await heldBytes(link, { session, sha256: hash }, signal);
      const detail = { expected: `at most ${packed.length} bytes held`, got: `${bytes}` };
      demand(bytes <= packed.length, () => new Fault("bad-message", "upload status", detail));
      onProgress(bytes / packed.length);
      return bytes;
    };
    for (let offset = tried ? await held() : 0; ; ) {
      tried = true;
      try {
        const upload = link.upload(uploadParts(session, packed, { offset, hash }), signal);
        return await told(upload, { clock, held, signal });
      } catch (error) {
        // Turned away before anything was taken: the caller waits as long as it was told to.
        const turnedAway = error instanceof Fault && error.detail.retryAfterMs !== undefined;
        if (turnedAway || !(error instanceof Fault && mayPass(error))) throw error;
        await clock.sleep(delayMs(0, jitter, error), signal);
        const now = await held();
        if (now < Math.min(offset + UPLOAD_CHUNK_BYTES, packed.length) || now === offset) throw error;
        offset = now;
      }
    }
  };
}

/** 0 from a coordinator that takes uploads as a whole. */
async function heldBytes(
  link: UploadLink,
  about: { session: Uint8Array; sha256: Uint8Array },
  signal: AbortSignal,
): Promise<number> {
  try {
    return (await link.uploadStatus(create(UploadStatusRequestSchema, about), signal)).heldBytes;
  } catch (error) {
    if (asFault(error).code === "unsupported") return 0;
    throw error;
  }
}

type Telling = {
  readonly clock: Patience["clock"];
  readonly held: () => Promise<number>;
  readonly signal: AbortSignal;
};

/** While an upload runs, asks now and then how much came. What it cannot learn it does not tell. */
async function told(upload: Promise<unknown>, { clock, held, signal }: Telling): Promise<void> {
  const over = new AbortController();
  const until = AbortSignal.any([signal, over.signal]);
  void (async () => {
    while (!until.aborted) {
      await clock.sleep(ASK_MS, until);
      await clock.turn();
      if (!until.aborted) await held();
    }
  })().catch(() => {});
  try {
    await upload;
  } finally {
    over.abort();
  }
}
