/** Where a round's attempt is, and since when: milliseconds of the wall clock, `ms` of the monotonic one. */
type OfAttempt = {
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly beganMs: number;
  readonly ms: number;
};

export const OUTCOMES = ["published", "evaluated", "failed", "stopped"] as const;

/**
 * What can be seen of a coordinator at work: metrics and traces are made of it, and nothing in the
 * coordinator depends on whether anybody looks. No name of a device is in it, nor what a device sent.
 */
export type Seen =
  /** A phase, or a stage of the secure sum, is over; `attemptBeganMs` names the attempt it was in. */
  | ({ readonly kind: "phase"; readonly phase: string; readonly attemptBeganMs: number } & OfAttempt)
  | ({
      readonly kind: "attempt";
      readonly outcome: (typeof OUTCOMES)[number];
      /** Devices in the sum. */
      readonly devices: number;
      readonly reason: string;
    } & OfAttempt)
  | { readonly kind: "run"; readonly run: string; readonly state: string; readonly reason: string }
  /** A request was answered: `ackMs` after its last byte had come. `code` is gRPC's. */
  | {
      readonly kind: "call";
      readonly method: string;
      readonly code: string;
      readonly beganMs: number;
      readonly ms: number;
      readonly ackMs: number;
      readonly bytes: number;
      /** The caller's W3C trace context, if it sent one. */
      readonly traceparent: string | undefined;
    }
  /** A write or a read of the store or of the artifacts; `entries` of a journal that one transaction took. */
  | {
      readonly kind: "stored";
      readonly operation: string;
      readonly run: string | undefined;
      readonly entries: number;
      readonly beganMs: number;
      readonly ms: number;
      readonly ok: boolean;
    };

export type Observe = (seen: Seen) => void;

/** Tells each in turn. None of them may fail: what is watched goes on all the same. */
export function observers(all: readonly Observe[]): Observe {
  return (seen) => {
    for (const one of all) one(seen);
  };
}
