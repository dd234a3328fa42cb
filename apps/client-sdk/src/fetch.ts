import { fromHex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { create } from "@tutti/wire/message";
import { FetchRequestSchema } from "@tutti/wire/round";
import { type Patience, persist } from "./backoff.ts";
import type { Link } from "./link.ts";
import type { Store } from "./store.ts";

/** What is wanted: an artifact by hash, and how long its signed description says it is. */
export type Wanted = { readonly sha256: string; readonly bytes: number };

/** Gets an artifact by hash; asked twice at once, it downloads once. */
type Fetcher = (wanted: Wanted) => Promise<Uint8Array>;

/**
 * One download per hash at a time: two would append to the same file and throw each other's bytes away.
 */
export function openFetcher(options: FetchOptions): Fetcher {
  const flying = new Map<string, { readonly bytes: number; readonly whole: Promise<Uint8Array> }>();
  return async function fetched(wanted: Wanted): Promise<Uint8Array> {
    const { sha256, bytes } = wanted;
    const other = flying.get(sha256);
    if (other?.bytes === bytes) return await other.whole;
    // One of two lengths is wrong; each is told so by the hash, in its turn.
    if (other) return await other.whole.catch(() => {}).then(() => fetched(wanted));
    const whole = obtain(wanted, options).finally(() => flying.delete(sha256));
    flying.set(sha256, { bytes, whole });
    return await whole;
  };
}

type FetchOptions = {
  readonly link: Pick<Link, "fetch">;
  readonly store: Pick<Store, "artifact" | "partial" | "append" | "complete" | "discard">;
  readonly patience: Patience;
  readonly signal: AbortSignal;
};

/**
 * An artifact's bytes: from the store, else from the coordinator, going on where an earlier try stopped, be
 * it before a reconnect or a restart. Bytes that do not have the hash are thrown away, never returned.
 * @throws Fault("refused") when the coordinator sends other bytes than the hash names.
 */
export async function obtain(wanted: Wanted, options: FetchOptions): Promise<Uint8Array> {
  const { link, store, patience, signal } = options;
  const held = await store.artifact(wanted.sha256);
  if (held && isWhole(wanted, held)) return held;
  // What has the hash is good, whatever length was signed; bytes on disk that changed are as good as none.
  const got = `${held?.length} bytes of it`;
  demand(!held || sha256Hex(held) !== wanted.sha256, () => refused(wanted, got));
  if (held) await store.discard(wanted.sha256);
  try {
    await persist((signal) => download(wanted, { link, store, signal }), patience, signal);
    const whole = await store.partial(wanted.sha256);
    const got = `${whole.length} others`;
    demand(isWhole(wanted, whole), () => refused(wanted, got));
    await store.complete(wanted.sha256);
    return whole;
  } catch (error) {
    if (asFault(error).code === "refused") await store.discard(wanted.sha256);
    throw error;
  }
}

type Download = Pick<FetchOptions, "link" | "store" | "signal">;

async function download({ sha256, bytes }: Wanted, { link, store, signal }: Download): Promise<void> {
  let offset = (await store.partial(sha256)).length;
  if (offset >= bytes) return;
  const request = create(FetchRequestSchema, { sha256: fromHex(sha256), offset });
  for await (const { data } of link.fetch(request, signal)) {
    const got = `at least ${offset + data.length}`;
    demand(
      offset + data.length <= bytes,
      () => new Fault("refused", `artifact ${sha256}`, { expected: `${bytes} bytes`, got }),
    );
    await store.append(sha256, data, offset);
    offset += data.length;
  }
  // A stream that ends early is a connection lost, not an answer.
  demand(
    offset === bytes,
    () => new Fault("unavailable", `artifact ${sha256}`, { got: `${offset} of ${bytes} bytes` }),
  );
}

function isWhole({ sha256, bytes }: Wanted, data: Uint8Array): boolean {
  return data.length === bytes && sha256Hex(data) === sha256;
}

function refused({ sha256, bytes }: Wanted, got: string): Fault {
  return new Fault("refused", `artifact ${sha256}`, { expected: `${bytes} bytes of that hash`, got });
}
