// biome-ignore-all assist/source/organizeImports: the order is the list's own
// For users: one device's side, a stage at a time.
export { type Agree, agree } from "./agree.ts";
export { type Advertised, advertise } from "./device/advertise.ts";
export { type Check, type SignedWord, type VerifyAll, verifyAhead } from "./device/ahead.ts";
export { type Attested, attest } from "./device/attest.ts";
export { erase } from "./device/erase.ts";
export { type Masked, mask } from "./device/mask.ts";
export { DEFAULT_FLOOR, type Floor, type Ledger, type Member, memoryLedger } from "./device/member.ts";
export { type Picked, pick } from "./device/pick.ts";
export { type Revealed, reveal } from "./device/reveal.ts";
export { type Shared, share, sharePicked } from "./device/share.ts";
export { type DeviceState, furthest } from "./device/state.ts";
export { findGraph, type GraphNeed, type GraphSize } from "./finder.ts";
export { type Lift, liftMasks, streamsOf } from "./server/lift.ts";
// For users: the coordinator's side, a message at a time.
export {
  advance,
  openSession,
  type Phase,
  receive,
  type ServerSession,
  type SessionTrust,
  type StageMessage,
  unmask,
  type Word,
  waitingFor,
  wordFor,
} from "./server/session.ts";
export type { UnmaskOptions } from "./server/unmask.ts";
export { corruptible, FULL_GRAPH, MAX_MEMBERS, MIN_MEMBERS, thresholdFor } from "./threshold.ts";
