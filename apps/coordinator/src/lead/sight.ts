import type { Lease } from "../store/lease.ts";

/** How long a lease lasts from each renewal, and how often it is renewed. */
export const LEASE_MS = 2_500;
export const RENEW_MS = 750;
/** How often a standby looks; a hint makes it look at once. */
export const POLL_MS = 500;
/**
 * The lease of a holder that has left the database may pass on so long after its last renewal: a leader whose
 * connection broke renews over a new one before that, or serves no longer.
 */
export const LEFT_MS = 1_300;
/** A leader serves no longer than this before its lease may pass on. */
export const MARGIN_MS = 300;

/** A lease as a standby saw it last, and since when it has not moved, by the standby's own clock. */
export type Sight = { readonly lease: Lease; readonly sinceMs: number };

export function look(before: Sight | null, lease: Lease, nowMs: number): Sight {
  const still = before?.lease.epoch === lease.epoch && before.lease.renewals === lease.renewals;
  return { lease, sinceMs: still ? before.sinceMs : nowMs };
}

/**
 * Whether a standby may ask for the lease: it is over by the database's clock; its holder has left the
 * database, as a process does that was killed; or that clock was set back and the holder has renewed nothing
 * for longer than a lease. Asking too early does no harm: only the newest epoch writes.
 */
export function mayAsk({ lease, sinceMs }: Sight, nowMs: number): "over" | "left" | "stuck" | null {
  if (lease.leftMs <= 0) return "over";
  if (lease.left && lease.leftMs <= LEASE_MS - LEFT_MS) return "left";
  return nowMs - sinceMs > LEASE_MS + RENEW_MS ? "stuck" : null;
}

/** When to look again. */
export function pauseMs({ lease }: Sight): number {
  const passesMs = lease.left ? lease.leftMs - (LEASE_MS - LEFT_MS) : lease.leftMs;
  return Math.max(1, Math.min(POLL_MS, passesMs));
}
