import { type Agree, agree as portableAgree, sharedSecret } from "../agree.ts";
import { pairKey, wipe } from "../keys.ts";
import { type Mask, pairSign, removeMasks } from "../mask.ts";

/**
 * One device's masks to take off a sum, as plain data: a coordinator may hand it to a thread. A survivor's
 * own mask, or for a lost device all masks that its surviving neighbours added for it.
 */
export type Lift =
  | { readonly kind: "self"; readonly key: Uint8Array }
  | {
      readonly kind: "pairs";
      readonly lost: string;
      /** s_sk of the lost device. */
      readonly secret: Uint8Array;
      readonly sid: Uint8Array;
      readonly neighbours: readonly { readonly name: string; readonly maskKey: Uint8Array }[];
    };

export type LiftOptions = {
  /** A platform's faster X25519. */
  readonly agree?: Agree;
  /** Awaited between secrets and between batches of masks, so that a long unmasking stops nothing else. */
  readonly pause?: () => Promise<void>;
};

/** Mask streams taken off in one walk over the vector, and words of them between two pauses. */
const [MOST_STREAMS, MOST_WORDS] = [64, 1 << 23];

/** How many mask streams a lift takes off: what it costs. */
export function streamsOf(lift: Lift): number {
  return lift.kind === "self" ? 1 : lift.neighbours.length;
}

/** How many streams one walk over a vector of `length` words takes off. */
export function batchOf(length: number): number {
  return Math.max(1, Math.min(MOST_STREAMS, Math.floor(MOST_WORDS / length)));
}

/** Overwrites what is secret in lifts, used or not. */
export function wipeLifts(lifts: Iterable<Lift>): void {
  for (const lift of lifts) wipe(lift.kind === "self" ? lift.key : lift.secret);
}

/** Takes the masks of all lifts off `sum`, in place, mod 2^32; overwrites their secrets. */
export async function liftMasks(
  sum: Uint32Array,
  lifts: Iterable<Lift>,
  options: LiftOptions = {},
): Promise<void> {
  const size = batchOf(sum.length);
  let batch: Mask[] = [];
  const takeOff = async () => {
    removeMasks(sum, batch);
    wipe(...batch.map(({ key }) => key));
    batch = [];
    await options.pause?.();
  };
  for (const lift of lifts) {
    for (const mask of masksOf(lift, options.agree ?? portableAgree)) {
      batch.push(mask);
      if (batch.length === size) await takeOff();
    }
    if (lift.kind === "pairs") wipe(lift.secret);
  }
  if (batch.length > 0) await takeOff();
}

function* masksOf(lift: Lift, agree: Agree): Generator<Mask> {
  if (lift.kind === "self") return yield { key: lift.key, sign: 1 };
  const { lost, secret, sid, neighbours } = lift;
  for (const { name, maskKey } of neighbours) {
    const shared = sharedSecret(agree, { secret, theirs: maskKey }, `mask key of ${name}`);
    yield { key: pairKey(shared, sid, [lost, name]), sign: pairSign(name, lost) };
    wipe(shared);
  }
}
