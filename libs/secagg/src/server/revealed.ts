import { groupOf, type ServerSession } from "./state.ts";

/** The shares of every sender's secret that devices revealed: by sender, then by holder. */
export function revealedShares({ revealed }: ServerSession): Map<string, Map<string, Uint8Array>> {
  const shares = new Map<string, Map<string, Uint8Array>>();
  for (const [holder, request] of revealed) {
    for (const { of, share } of request.shares) {
      if (share.case === undefined) continue;
      const held = shares.get(of) ?? new Map<string, Uint8Array>();
      shares.set(of, held.set(holder, share.value));
    }
  }
  return shares;
}

/** Senders whose secret has fewer than `needed` shares, each with its count. */
export function lacking({ senders, counts }: ServerSession, needed: number): [string, number][] {
  return senders.flatMap((sender): [string, number][] => {
    const count = counts.get(sender) ?? 0;
    return count < needed ? [[sender, count]] : [];
  });
}

/** Whether its masks could be taken off, though it may wait for more: t shares of every sender's secret. */
export function mayBeOpened(session: ServerSession): boolean {
  if (session.phase !== "revealing" && session.phase !== "complete") return false;
  return lacking(session, groupOf(session).graph.threshold).length === 0;
}

/**
 * Whether a session may complete without waiting longer: t shares of every secret, and the spares asked for.
 */
export function isEnough(session: ServerSession): boolean {
  const { threshold } = groupOf(session).graph;
  const { signers, trust, revealed } = session;
  const everyone = revealed.size === signers.length;
  const needed = everyone ? threshold : threshold + (trust.spareShares ?? 0);
  return session.senders.every((sender) => (session.counts.get(sender) ?? 0) >= needed);
}
