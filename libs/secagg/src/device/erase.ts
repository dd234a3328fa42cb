import { type DeviceState, drop } from "./state.ts";

/** Overwrites every secret of a session and forgets its answers; whatever comes for it later is refused. */
export function erase({ vault }: DeviceState): void {
  drop(vault, [...vault.secrets]);
  vault.erased = true;
  vault.answers.pick = undefined;
  vault.answers.share = undefined;
  vault.answers.mask = undefined;
  vault.answers.attest = undefined;
  vault.answers.reveal = undefined;
}
