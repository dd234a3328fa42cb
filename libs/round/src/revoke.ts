import { Fault } from "@tutti/foundation/fault";
import type { JournalEntry } from "@tutti/wire/journal";

/** What of a round changes when one of its devices is revoked. */
type Devices = {
  readonly connected: ReadonlySet<string>;
  readonly ready: ReadonlySet<string>;
  readonly revoked: ReadonlySet<string>;
};

/**
 * The round without a device that the federation revoked: as if it had vanished at this moment, and for good.
 * It is dealt into no cohort. In a sum it is one more dropout: nothing more of it is taken, and nobody waits
 * for it. A vector that is in the running sum already stays there, since masked nobody can take it out.
 */
export function revoke<R extends Devices>(round: R, device: string): R {
  if (round.revoked.has(device)) return round;
  const without = (names: ReadonlySet<string>) => new Set([...names].filter((name) => name !== device));
  const revoked = new Set([...round.revoked, device]);
  return { ...round, revoked, connected: without(round.connected), ready: without(round.ready) };
}

/** @throws Fault("refused") for whatever a revoked device may still have had under way. */
export function mustNotBeRevoked(
  { revoked }: Devices,
  { device, event }: Pick<JournalEntry, "device" | "event">,
): void {
  if (!revoked.has(device) || event.case === "revoked" || event.case === "disconnected") return;
  throw new Fault("refused", `${event.case} by ${device}`, {
    expected: "a device of the federation",
    got: "one that was revoked",
  });
}
