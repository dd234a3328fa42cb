import { sha256 } from "@tutti/foundation/hash";
import { create } from "@tutti/wire/message";
import { CHUNK_BYTES } from "@tutti/wire/rpc";
import { type UploadPart, UploadPartSchema } from "@tutti/wire/secagg";

/** A packed vector as an upload: a header, then chunks. It can be walked again, as a retry must. */
export function uploadParts(session: Uint8Array, packed: Uint8Array): AsyncIterable<UploadPart> {
  return {
    async *[Symbol.asyncIterator]() {
      const header = { session, packedBytes: packed.length, sha256: sha256(packed) };
      yield create(UploadPartSchema, { part: { case: "header", value: header } });
      for (let at = 0; at < packed.length; at += CHUNK_BYTES) {
        yield create(UploadPartSchema, {
          part: { case: "chunk", value: packed.subarray(at, at + CHUNK_BYTES) },
        });
      }
    },
  };
}
