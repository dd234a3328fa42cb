import { hex } from "@tutti/foundation/bytes";
import { checkBytes } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { type Chunk, ChunkSchema, type FetchRequest } from "@tutti/wire/round";
import type { Artifacts } from "../artifacts.ts";

/** An artifact from an offset on, so that a cut download resumes where it stopped. */
export async function* chunksFrom(
  artifacts: Artifacts,
  { sha256, offset }: FetchRequest,
): AsyncGenerator<Chunk> {
  const name = hex(checkBytes("artifact hash", sha256, 32));
  const totalBytes = await artifacts.size(name);
  if (!Number.isInteger(offset) || offset < 0 || offset > totalBytes) {
    throw new Fault("bad-input", "offset", { expected: `0..${totalBytes}`, got: `${offset}` });
  }
  let first = true;
  for await (const data of artifacts.stream(name, offset)) {
    yield create(ChunkSchema, first ? { data, totalBytes } : { data });
    first = false;
  }
  if (first) yield create(ChunkSchema, { totalBytes });
}
