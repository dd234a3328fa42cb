import { groupOf, type ServerSession } from "./state.ts";

/** The shares of one sender's secret that devices revealed, by holder. */
export function sharesOf({ revealed }: ServerSession, sender: string): Map<string, Uint8Array> {
  const shares = new Map<string, Uint8Array>();
  for (const [holder, request] of revealed) {
    const found = request.shares.find(({ of }) => of === sender)?.share;
    if (found?.case !== undefined) shares.set(holder, found.value);
  }
  return shares;
}

/** Senders whose secret has fewer than `needed` shares, each with its count. */
export function lacking(session: ServerSession, needed: number): [string, number][] {
  const counts = new Map(session.senders.map((sender) => [sender, 0]));
  for (const { shares } of session.revealed.values()) {
    for (const { of } of shares) counts.set(of, (counts.get(of) ?? 0) + 1);
  }
  return [...counts].filter(([, count]) => count < needed);
}

/**
 * Whether a session may complete without waiting longer: t shares of every secret, and the spares asked for.
 */
export function isEnough(session: ServerSession): boolean {
  const { threshold } = groupOf(session);
  const { signers, trust, revealed } = session;
  const everyone = revealed.size === signers.length;
  return lacking(session, everyone ? threshold : threshold + (trust.spareShares ?? 0)).length === 0;
}
