import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type {
  Advertisement,
  AttestRequest,
  PickRequest,
  RevealRequest,
  ShareRequest,
  Terms,
} from "@tutti/wire/secagg";
import type { Shares } from "../envelope.ts";
import type { Crew, Group } from "../group.ts";
import { type KeyPair, wipe } from "../keys.ts";
import type { Member } from "./member.ts";

type Held = { readonly member: Member; readonly terms: Terms; readonly vault: Vault };

/** Stage 0 is done: two fresh key pairs, one advertisement. */
export type Advertised = Held & {
  readonly stage: "advertised";
  readonly envelopeKeys: KeyPair;
  readonly maskKeys: KeyPair;
  readonly advertisement: Advertisement;
};

/** More than 100 members: the roster is checked, and this device's holders are picked from it. */
export type Picked = Omit<Advertised, "stage"> & {
  readonly stage: "picked";
  readonly crew: Crew;
  readonly picked: PickRequest;
};

/** Stage 1 is done: U1 is fixed; the secrets are split and sealed, and what is left are agreed keys. */
export type Shared = Held & {
  readonly stage: "shared";
  readonly group: Group;
  /** b_u */
  readonly seed: Uint8Array;
  /** Mask key with each neighbour. */
  readonly pairKeys: ReadonlyMap<string, Uint8Array>;
  /** Key of the envelope from each whose share this device is to hold. */
  readonly openers: ReadonlyMap<string, Uint8Array>;
  readonly request: ShareRequest;
};

/** Stage 2 is done: U2 is fixed and the vector is masked; what is left are shares of the senders' secrets. */
export type Masked = Held & {
  readonly stage: "masked";
  readonly group: Group;
  /** U2, ascending. */
  readonly senders: readonly string[];
  readonly shares: ReadonlyMap<string, Shares>;
  /** Senders whose envelope did not open: their shares stay unrevealed here, others' may suffice. */
  readonly unreadable: readonly string[];
};

/** Stage 3 is done: U3 is fixed and signed for. */
export type Attested = Omit<Masked, "stage"> & {
  readonly stage: "attested";
  /** U3, ascending. */
  readonly survivors: readonly string[];
  /** The bytes that this device signed, and that others must have signed. */
  readonly statement: Uint8Array;
};

/** Stage 4 is done; nothing secret is left but the answer itself. */
export type Revealed = Held & { readonly stage: "revealed" };

export type DeviceState = Advertised | Picked | Shared | Masked | Attested | Revealed;

const STAGES: readonly DeviceState["stage"][] = [
  "advertised",
  "picked",
  "shared",
  "masked",
  "attested",
  "revealed",
];

/**
 * The state to keep of the one held and the one a stage gave: a repeat gives the state of then, and a session
 * never goes back to it.
 */
export function furthest(held: DeviceState, reached: DeviceState): DeviceState {
  return STAGES.indexOf(reached.stage) > STAGES.indexOf(held.stage) ? reached : held;
}

/** A stage's outcome. */
export type Answers = {
  pick: { readonly state: Picked; readonly message: PickRequest };
  share: Promise<{ readonly state: Shared; readonly message: ShareRequest }>;
  mask: { readonly state: Masked; readonly packed: Uint8Array };
  attest: { readonly state: Attested; readonly message: AttestRequest };
  reveal: { readonly state: Revealed; readonly message: RevealRequest };
};

/**
 * What is the same in every state of one session, and the one thing here that changes in place: a stage
 * answered stays answered, and a key erased is gone, whichever older state a caller may still hold.
 */
export type Vault = {
  readonly answers: { [Stage in keyof Answers]: Answered<Stage> | undefined };
  readonly secrets: Set<Uint8Array>;
  erased: boolean;
};

type Answered<Stage extends keyof Answers> = { readonly input: Input; readonly answer: Answers[Stage] };

/**
 * What a stage answers to: the message, and for the masked vector its words. Kept as it is and compared only
 * with a second one, as messages may have a megabyte and mostly there is no second; who changes it in place
 * changes no answer.
 */
export type Input = { readonly encoded: () => Uint8Array; readonly words?: Uint32Array };

export function newVault(): Vault {
  const answers = {
    pick: undefined,
    share: undefined,
    mask: undefined,
    attest: undefined,
    reveal: undefined,
  };
  return { answers, secrets: new Set(), erased: false };
}

/** Registers secrets for `erase`; gives them back. */
export function keep<Secret extends Uint8Array>(vault: Vault, secret: Secret): Secret {
  vault.secrets.add(secret);
  return secret;
}

/** Overwrites secrets that no later stage needs. */
export function drop(vault: Vault, secrets: Iterable<Uint8Array>): void {
  for (const secret of secrets) {
    wipe(secret);
    vault.secrets.delete(secret);
  }
}

/**
 * One answer per stage and session (docs/protocol.md, Once): the same input gets the same answer again, any
 * other is refused. An input that `make` refuses leaves the stage open.
 */
export function once<Stage extends keyof Answers>(
  { vault, member }: Held,
  stage: Stage,
  { input, make }: { input: Input; make: () => Answers[Stage] },
): Answers[Stage] {
  const refuse = (expected: string, got: string) => () =>
    new Fault("refused", `${stage} by ${member.name}`, { expected, got });
  demand(!vault.erased, refuse("a session in progress", "one that was erased"));
  const known = vault.answers[stage];
  if (known) {
    demand(isSame(known.input, input), refuse("the message it answered already", "another one"));
    return known.answer;
  }
  const answer = make();
  // An answer that comes later may be a refusal: then the stage is open again.
  if (answer instanceof Promise) answer.catch(() => forget(vault, stage, answer));
  Object.assign(vault.answers, { [stage]: { input, answer } });
  return answer;
}

function forget(vault: Vault, stage: keyof Answers, answer: unknown): void {
  if (vault.answers[stage]?.answer === answer) vault.answers[stage] = undefined;
}

function isSame(a: Input, b: Input): boolean {
  return equalBytes(a.encoded(), b.encoded()) && equalWords(a.words, b.words);
}

function equalWords(a: Uint32Array | undefined, b: Uint32Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((word, at) => word === b[at]);
}

/** For a message that comes before its stage, or after its stage has passed without it. */
export function outOfOrder(state: DeviceState, expected: DeviceState["stage"]): Fault {
  return new Fault("refused", `message to ${state.member.name}`, {
    expected: `one for a device that has ${expected}`,
    got: `one for another stage: it has ${state.stage}`,
  });
}
