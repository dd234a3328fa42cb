import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Agree, agree, publicKeyOf } from "../agree.ts";
import { neighboursOf } from "../graph.ts";
import { selfKey, wipe } from "../keys.ts";
import { reconstruct } from "../shares.ts";
import { seedCommitment } from "../statement.ts";
import { type Lift, type LiftOptions, liftMasks, wipeLifts } from "./lift.ts";
import { revealedShares } from "./revealed.ts";
import { groupOf, mustBe, type ServerSession } from "./state.ts";

export type UnmaskOptions = LiftOptions & {
  /** Told of each holder that must have lied about `of`'s secret; the sum is right all the same. */
  readonly onLiar?: (liar: string, of: string) => void;
  /** Takes masks off `sum`, in place, elsewhere than here: on threads (libs/secagg/src/server/lift.ts). */
  readonly lift?: (sum: Uint32Array, lifts: readonly Lift[]) => Promise<void>;
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
  const lifts = await liftsOf(session, options);
  const { lift = inline(options) } = options;
  try {
    await lift(plain, lifts);
  } finally {
    wipeLifts(lifts);
  }
  if (bits < 32) for (let i = 0; i < plain.length; i++) plain[i] = plain[i]! & (2 ** bits - 1);
  return plain;
}

function inline(options: LiftOptions): NonNullable<UnmaskOptions["lift"]> {
  return (sum, lifts) => liftMasks(sum, lifts, options);
}

/** Every sender's secret, and what it opens. */
async function liftsOf(session: ServerSession, options: UnmaskOptions): Promise<Lift[]> {
  const { sid, parties, graph } = groupOf(session);
  const shares = revealedShares(session);
  const survivors = new Set(session.survivors);
  const search: Search = {
    suspects: new Set(),
    onLiar: options.onLiar ?? ignore,
    agree: options.agree ?? agree,
  };
  const lifts: Lift[] = [];
  for (const sender of session.senders) {
    const alive = survivors.has(sender);
    const held = shares.get(sender) ?? new Map();
    const secret = secretOf(session, { sender, alive, shares: held }, search);
    await options.pause?.();
    if (alive) {
      lifts.push({ kind: "self", key: selfKey(secret, sid, sender) });
      wipe(secret);
      continue;
    }
    const near = neighboursOf(graph, sender).filter((name) => survivors.has(name));
    const neighbours = near.map((name) => ({ name, maskKey: parties.get(name)!.advertisement.maskKey }));
    lifts.push({ kind: "pairs", lost: sender, secret, sid, neighbours });
  }
  return lifts;
}

/** What the search for one secret learns for the next, and the platform's X25519. */
type Search = {
  readonly suspects: Set<string>;
  readonly onLiar: (liar: string, of: string) => void;
  readonly agree: Agree;
};

/**
 * A survivor's seed or a lost device's mask key, held against what its owner published before anyone asked.
 */
function secretOf(
  session: ServerSession,
  { sender, alive, shares }: { sender: string; alive: boolean; shares: ReadonlyMap<string, Uint8Array> },
  { suspects, onLiar, agree }: Search,
): Uint8Array {
  const { sid, graph, parties } = groupOf(session);
  const { threshold } = graph;
  const good = alive
    ? (seed: Uint8Array) =>
        equalBytes(seedCommitment(sid, sender, seed), session.shared.get(sender)!.commitment)
    : (key: Uint8Array) => equalBytes(publicKeyOf(key, agree), parties.get(sender)!.advertisement.maskKey);
  const found = reconstruct(shares, { threshold, good, suspects });
  demand(found, () => unrecoverable(sender, { alive, held: shares.size, threshold }));
  for (const misfit of found.misfits) {
    suspects.add(misfit);
    if (found.certain) onLiar(misfit, sender);
  }
  return found.secret;
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
