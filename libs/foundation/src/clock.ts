/**
 * Time as an argument. `nowMs` is monotonic and has no epoch: deadlines use it, so a stepped wall clock
 * cannot end a round. `wallMs` is for what people read: certificates, audit lines.
 */
export type Clock = {
  nowMs(): number;
  wallMs(): number;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
};
