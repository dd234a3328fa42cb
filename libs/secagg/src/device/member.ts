import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";
import { verifyCertificate } from "@tutti/identity/certificate";
import type { SigningKey, Verify } from "@tutti/identity/keys";
import type { Certificate } from "@tutti/wire/device";
import type { Agree, AgreeAll } from "../agree.ts";

/**
 * The least that this device's own policy takes part in; a coordinator cannot lower it (docs/protocol.md,
 * Threshold).
 */
export type Floor = {
  readonly devices: number;
  readonly threshold: number;
  readonly survivors: number;
  /** Of more than 100 members, thousandths that may be the coordinator's; absent: `DEFAULT_CORRUPT`. */
  readonly corrupt?: number;
};

/** One in ten: k and t for 1,000 members are then 96 and 67 (docs/protocol.md, More than 100). */
export const DEFAULT_CORRUPT = 100;

/** With two survivors each learns the other's update from the result. */
export const DEFAULT_FLOOR: Floor = { devices: 3, threshold: 2, survivors: 3 };

/** Rounds that this device has helped to open; it helps with no second sum of the same round (attack 10). */
export type Ledger = {
  has(run: string, round: number): boolean;
  /** Must be kept, through a restart too, before it returns. */
  add(run: string, round: number): void;
};

/** A ledger for one process. */
export function memoryLedger(): Ledger {
  const opened = new Set<string>();
  const key = (run: string, round: number) => `${round} ${run}`;
  return {
    has: (run, round) => opened.has(key(run, round)),
    add: (run, round) => void opened.add(key(run, round)),
  };
}

/** One device, as it takes part in sessions. */
export type Member = {
  readonly name: string;
  readonly certificate: Certificate;
  /** Signs for `certificate`. */
  readonly key: SigningKey;
  /** The federation's public key, pinned when the device joined. */
  readonly authority: Uint8Array;
  readonly floor: Floor;
  /** Most members that this device's vector is cut for: a sum of more could wrap. Absent: any number. */
  readonly most?: number;
  readonly random: SecretRandom;
  /** Wall clock, in seconds since 1970: for certificates. */
  readonly nowS: number;
  readonly ledger: Ledger;
  readonly verify?: Verify;
  readonly agree?: Agree;
  /** Where a platform agrees on keys asynchronously only; instead of `agree`. */
  readonly agreeAll?: AgreeAll;
};

/** A device finds out about its own wrong or expired certificate before it sends one. */
export function checkMember(member: Member): void {
  const { certificate, name, key } = member;
  const identity = verifyCertificate(certificate, { ...member, role: "device" });
  demand(
    identity.name === name && equalBytes(identity.publicKey, key.publicKey),
    () =>
      new Fault("bad-input", `certificate of ${name}`, {
        expected: "its own name and key",
        got: identity.name,
      }),
  );
}

/** @throws Fault("refused") when this device has opened a sum of the round already. */
export function checkLedger({ ledger, name }: Member, { run, round }: { run: string; round: number }): void {
  demand(
    !ledger.has(run, round),
    () =>
      new Fault("refused", `${name} in round ${round}`, {
        expected: "a round whose sum was not opened yet",
        got: "one it has answered for",
        todo: "Wait for the next round",
      }),
  );
}
