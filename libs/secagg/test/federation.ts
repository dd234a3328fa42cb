import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import { unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import { create } from "@tutti/wire/message";
import { type Terms, TermsSchema } from "@tutti/wire/secagg";
import { advertise } from "../src/device/advertise.ts";
import { attest } from "../src/device/attest.ts";
import { mask } from "../src/device/mask.ts";
import { DEFAULT_FLOOR, type Member, memoryLedger } from "../src/device/member.ts";
import { pick } from "../src/device/pick.ts";
import { reveal } from "../src/device/reveal.ts";
import { share, sharePicked } from "../src/device/share.ts";
import type { DeviceState } from "../src/device/state.ts";
import { advance, openSession, receive, type ServerSession, wordFor } from "../src/server/session.ts";
import { FULL_GRAPH } from "../src/threshold.ts";
import { nativeAgree, rememberingVerify } from "./native.ts";

export const NOW_S = 1_800_000_000;
export const random = platformRandom();
export const authority = signingKey(newSeed(random));
export const TRUST = {
  authority: authority.publicKey,
  nowS: NOW_S,
  verify: rememberingVerify,
  agree: nativeAgree,
};

/** Signing keys cost milliseconds each: the same twelve devices serve every test. */
const members = new Map<string, Member>();

export function memberOf(name: string, by: SigningKey = authority): Member {
  const known = members.get(name);
  if (known && by === authority) return known;
  const token = signingKey(newSeed(random));
  const key = signingKey(newSeed(random));
  const grant = issue(by, {
    role: "device",
    name,
    publicKey: token.publicKey,
    notBeforeS: NOW_S - 10,
    notAfterS: NOW_S + 1000,
    serial: random.bytes(16),
  });
  const certificate = bind(grant, token, key.publicKey);
  const floor = DEFAULT_FLOOR;
  const member = { name, certificate, key, ...TRUST, floor, random, ledger: memoryLedger() };
  if (by === authority) members.set(name, member);
  return member;
}

/** d00, d01, …: their order by name is their order here. */
export function names(n: number): string[] {
  const width = n > FULL_GRAPH ? 3 : 2;
  return Array.from({ length: n }, (_, i) => `d${String(i).padStart(width, "0")}`);
}

function named(who: number | readonly string[]): readonly string[] {
  return typeof who === "number" ? names(who) : who;
}

export function terms(
  change: Partial<Pick<Terms, "attempt" | "bits" | "length" | "round" | "run">> = {},
): Terms {
  const hashes = { modelHash: new Uint8Array(32).fill(1), taskHash: new Uint8Array(32).fill(2) };
  return create(TermsSchema, {
    run: "run",
    round: 3,
    attempt: 1,
    bits: 20,
    length: 5,
    corrupt: 100,
    lost: 100,
    ...hashes,
    ...change,
  });
}

/** A session with its devices, driven by hand: what a test changes it changes between the stages. */
export type Play = {
  session: ServerSession;
  /** Each with a ledger of this play's own. */
  readonly members: Map<string, Member>;
  readonly states: Map<string, DeviceState>;
  readonly inputs: Map<string, Uint32Array>;
  sum: Uint32Array;
};

export function begin(who: number | readonly string[], given: Terms = terms(), spareShares = 100): Play {
  const devices = named(who);
  const expected = devices.length > FULL_GRAPH && { members: new Set(devices) };
  const session = openSession(given, { ...TRUST, spareShares, ...expected });
  const limit = given.bits === 32 ? 2 ** 32 : 2 ** given.bits;
  const draw = () => Uint32Array.from({ length: given.length }, () => Math.floor(Math.random() * limit));
  const inputs = new Map(devices.map((name) => [name, draw()]));
  const members = new Map(devices.map((name) => [name, { ...memberOf(name), ledger: memoryLedger() }]));
  return { session, members, states: new Map(), inputs, sum: new Uint32Array(given.length) };
}

type Step = (play: Play, device: string) => void | Promise<void>;

export const steps: Record<Stage, Step> = {
  advertise(play, device) {
    const { state, message } = advertise(play.session.terms, play.members.get(device)!);
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "advertise", advertisement: message });
  },
  pick(play, device) {
    const { state, message } = pick(play.states.get(device)!, wordAs(play, device, "roster"));
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "pick", request: message });
  },
  async share(play, device) {
    const state0 = play.states.get(device)!;
    const { state, message } =
      state0.stage === "picked"
        ? await sharePicked(state0, wordAs(play, device, "picks"))
        : await share(state0, wordAs(play, device, "roster"));
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "share", request: message });
  },
  mask(play, device) {
    const { bits, length } = play.session.terms;
    const words = play.inputs.get(device)!;
    const { state, packed } = mask(play.states.get(device)!, wordAs(play, device, "delivery"), words);
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "upload" });
    addInto(play.sum, unpackBits(packed, bits, length));
  },
  attest(play, device) {
    const { state, message } = attest(play.states.get(device)!, wordAs(play, device, "survivors"));
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "attest", request: message });
  },
  reveal(play, device) {
    const { state, message } = reveal(play.states.get(device)!, wordAs(play, device, "attestations"));
    play.states.set(device, state);
    play.session = receive(play.session, device, { stage: "reveal", request: message });
  },
};

type Words = NonNullable<ReturnType<typeof wordFor>>;
type MessageOf<Kind extends Words["kind"]> = Extract<Words, { kind: Kind }>["message"];

/** The session's word to a device, which must be of this kind. */
export function wordAs<Kind extends Words["kind"]>(
  { session }: Play,
  device: string,
  kind: Kind,
): MessageOf<Kind> {
  const word = wordFor(session, device);
  if (word?.kind !== kind) throw new Error(`${device} is told ${word?.kind ?? "nothing"}, not ${kind}`);
  return word.message as MessageOf<Kind>;
}

export const STAGES = ["advertise", "share", "mask", "attest", "reveal"] as const;
export type Stage = (typeof STAGES)[number] | "pick";

/** One stage for some devices; the session stays in it until `close`. */
export async function during(play: Play, stage: Stage, devices: readonly string[]): Promise<void> {
  for (const device of devices) await steps[stage](play, device);
}

export function close(play: Play): void {
  play.session = advance(play.session);
}

/** Everybody goes through every stage before `stage`. */
export async function upTo(
  stage: Stage,
  who: number | readonly string[],
  given: Terms = terms(),
): Promise<Play> {
  const devices = named(who);
  const play = begin(devices, given);
  const isSparse = devices.length > FULL_GRAPH;
  const all: readonly Stage[] = isSparse ? ["advertise", "pick", ...STAGES.slice(1)] : STAGES;
  for (const each of all.slice(0, all.indexOf(stage))) {
    await during(play, each, devices);
    close(play);
  }
  return play;
}

/** As at the beginning of `upTo`, and through every stage. */
export async function played(n: number, given: Terms = terms()): Promise<Play> {
  const play = await upTo("reveal", n, given);
  await during(play, "reveal", names(n));
  return play;
}

/** The plain sum of these devices' inputs: what no stage may change. */
export function plainSum(play: Play, devices: readonly string[]): Uint32Array {
  const { bits, length } = play.session.terms;
  const sum = Array<bigint>(length).fill(0n);
  for (const device of devices) {
    for (const [i, word] of play.inputs.get(device)!.entries()) sum[i]! += BigInt(word);
  }
  return Uint32Array.from(sum, (value) => Number(BigInt.asUintN(bits, value)));
}
