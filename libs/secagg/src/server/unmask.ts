import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Agree, agree as portableAgree, publicKeyOf, sharedSecret } from "../agree.ts";
import type { Group } from "../group.ts";
import { pairKey, selfKey, wipe } from "../keys.ts";
import { pairSign, removeMask } from "../mask.ts";
import { reconstruct } from "../shares.ts";
import { seedCommitment } from "../statement.ts";
import { sharesOf } from "./revealed.ts";
import { groupOf, mustBe, type ServerSession } from "./state.ts";

export type UnmaskOptions = {
  /** A platform's faster X25519. */
  readonly agree?: Agree;
  /** Told of each holder that must have lied about `of`'s secret; the sum is right all the same. */
  readonly onLiar?: (liar: string, of: string) => void;
  /** Awaited between mask streams, so that a long unmasking need not stop everything else. */
  readonly pause?: () => Promise<void>;
};

/**
 * The plain sum over U3, mod 2^bits, from the sum of masked vectors (Fig. 4, the end of round 4). `sum` stays
 * as it is.
 * @throws Fault("conflict") before the session is complete; Fault("refused") naming the device whose secret
 * cannot be had from the shares revealed: it or one of its holders lied.
 */
export async function unmask(
  session: ServerSession,
  sum: Uint32Array,
  options: UnmaskOptions = {},
): Promise<Uint32Array> {
  mustBe(session, ["complete"], "unmasking");
  const { length, bits } = session.terms;
  demand(
    sum.length === length,
    () => new Fault("bad-input", "masked sum", { expected: `${length} words`, got: `${sum.length}` }),
  );
  const plain = sum.slice();
  const suspects = new Set<string>();
  for (const sender of session.senders) {
    const secret = await secretOf(session, sender, { suspects, onLiar: options.onLiar ?? ignore });
    const alive = session.survivors.includes(sender);
    const keys = alive
      ? [ownMask(session, sender, secret)]
      : pairMasks(session, { lost: sender, secret }, options);
    for (const mask of keys) {
      removeMask(plain, mask);
      wipe(mask.key);
      await options.pause?.();
    }
    wipe(secret);
  }
  if (bits < 32) for (let i = 0; i < plain.length; i++) plain[i] = plain[i]! & (2 ** bits - 1);
  return plain;
}

/**
 * A survivor's seed or a lost device's mask key, held against what its owner published before anyone asked.
 */
async function secretOf(
  session: ServerSession,
  sender: string,
  { suspects, onLiar }: { suspects: Set<string>; onLiar: (liar: string, of: string) => void },
): Promise<Uint8Array> {
  const { sid, threshold, parties } = groupOf(session);
  const shares = sharesOf(session, sender);
  const alive = session.survivors.includes(sender);
  const good = alive
    ? (seed: Uint8Array) =>
        equalBytes(seedCommitment(sid, sender, seed), session.shared.get(sender)!.commitment)
    : (key: Uint8Array) => equalBytes(publicKeyOf(key), parties.get(sender)!.advertisement.maskKey);
  const found = await reconstruct(shares, { threshold, good, suspects });
  demand(found, () => unrecoverable(sender, { alive, held: shares.size, threshold }));
  for (const misfit of found.misfits) {
    suspects.add(misfit);
    if (found.certain) onLiar(misfit, sender);
  }
  return found.secret;
}

/** PRG(self key), which every survivor added. */
function ownMask(session: ServerSession, name: string, seed: Uint8Array) {
  return { key: selfKey(seed, groupOf(session).sid, name), sign: 1 } as const;
}

/** What each survivor added for a device whose own half never came. */
function* pairMasks(
  session: ServerSession,
  { lost, secret }: { lost: string; secret: Uint8Array },
  { agree = portableAgree }: UnmaskOptions,
) {
  const { sid, parties }: Group = groupOf(session);
  for (const survivor of session.survivors) {
    const theirs = parties.get(survivor)!.advertisement.maskKey;
    const shared = sharedSecret(agree, { secret, theirs }, `mask key of ${survivor}`);
    yield { key: pairKey(shared, sid, [lost, survivor]), sign: pairSign(survivor, lost) };
    wipe(shared);
  }
}

function unrecoverable(
  sender: string,
  { alive, held, threshold }: { alive: boolean; held: number; threshold: number },
): Fault {
  const secret = alive ? "seed" : "mask key";
  const spare = held - threshold;
  const who =
    spare > 0 ? `${sender} or more than ${spare} of its holders lied` : `${sender} or a holder of it lied`;
  return new Fault("refused", `${secret} of ${sender}`, {
    expected: `${threshold} of ${held} shares that fit what ${sender} published`,
    got: `none that do: ${who}`,
  });
}

function ignore(): void {}
