import { equalBytes } from "@tutti/foundation/bytes";
import { demand, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { packBits } from "@tutti/kernels/pack";
import { plainSessionId } from "@tutti/round/spec";
import { advertise } from "@tutti/secagg/device/advertise";
import { type SignedWord, verifyAhead } from "@tutti/secagg/device/ahead";
import { attest } from "@tutti/secagg/device/attest";
import { erase } from "@tutti/secagg/device/erase";
import { mask } from "@tutti/secagg/device/mask";
import type { Member } from "@tutti/secagg/device/member";
import { pick } from "@tutti/secagg/device/pick";
import { reveal } from "@tutti/secagg/device/reveal";
import { share, sharePicked } from "@tutti/secagg/device/share";
import { type DeviceState, outOfOrder } from "@tutti/secagg/device/state";
import { FULL_GRAPH } from "@tutti/secagg/threshold";
import { create, encode } from "@tutti/wire/message";
import type { Instruction } from "@tutti/wire/round";
import { AdvertiseRequestSchema, type ShareRequest, type Terms, TermsSchema } from "@tutti/wire/secagg";
import type { Link } from "./link.ts";
import { pinPeers } from "./peers.ts";
import { type Site, trustOf } from "./site.ts";
import { uploadParts } from "./upload.ts";
import type { Words } from "./vector.ts";

type Case = "roster" | "picks" | "delivery" | "survivors" | "attestations";
/** A word that carries a session forward. */
export type StageWord = Extract<Instruction["word"], { case: Case }>;

/** What the device answers: `send` may be repeated, as the coordinator takes the same message once. */
export type Answer = { readonly uploads: boolean; send(link: Link, signal: AbortSignal): Promise<unknown> };

/** One sum this device is in. Its keys live here, in memory alone, until `close`. */
export type Session = {
  isFor(terms: Terms): boolean;
  /** @throws Fault("refused") when the terms are not the device's own. */
  open(terms: Terms): Answer;
  hear(word: StageWord): Promise<Answer>;
  close(): void;
};

export type SessionOptions = {
  /** The device's own terms, from plan and task (libs/round/spec.ts). */
  readonly own: Terms;
  /** The quantised vector, in the ring; under noise, made once it is known who is in the sum. */
  readonly words: Words;
  readonly site: Site;
};

export function openSession(options: SessionOptions): Session {
  return options.own.plain ? plainSession(options) : secureSession(options);
}

/** No masks: the plan turned them off, and `permit` found that the policy allows it. */
function plainSession({ own, words }: SessionOptions): Session {
  const session = plainSessionId(own);
  demand(
    words instanceof Uint32Array,
    () => new Fault("refused", "session", { expected: "masks under noise", got: "none" }),
  );
  return {
    isFor: (terms) => same(terms, own),
    open: (terms) => {
      mustAgree(terms, own);
      return upload(session, packBits(words, own.bits));
    },
    hear: async (word) => {
      throw new Fault("refused", word.case, { expected: "no stage of a session without masks" });
    },
    close: () => {},
  };
}

/** Bonawitz et al. 2017, Fig. 4, a stage per word; libs/secagg checks each and answers it once. */
function secureSession({ own, words, site }: SessionOptions): Session {
  const { state: advertised, message: advertisement } = advertise(own, memberOf(site));
  let state: DeviceState = advertised;
  /** A repeat gives the state of then; the session never goes back to it. */
  const reach = (next: DeviceState) => {
    if (STAGES.indexOf(next.stage) > STAGES.indexOf(state.stage)) state = next;
  };
  const { verifyAll } = site;
  let drawn: Uint32Array | null = words instanceof Uint32Array ? words : null;
  /** One draw of noise a session, however often its delivery is said. */
  const vector = (): Uint32Array => {
    if (drawn || words instanceof Uint32Array) return drawn ?? (words as Uint32Array);
    if (state.stage !== "shared") throw outOfOrder(state, "shared");
    drawn = words(state.group);
    return drawn;
  };
  /** The state to take a word with: with its signatures verified, where that takes the platform time. */
  const ready = async (word: SignedWord) => (verifyAll ? verifyAhead(state, word, verifyAll) : state);
  return {
    isFor: (terms) => same(terms, own),
    open: (terms) => {
      mustAgree(terms, own);
      return says((link, signal) =>
        link.advertise(create(AdvertiseRequestSchema, { terms: own, advertisement }), signal),
      );
    },
    hear: async (word) => {
      switch (word.case) {
        case "roster": {
          const ahead = await ready({ kind: "roster", message: word.value });
          if (word.value.members.length > FULL_GRAPH) {
            const picked = pick(ahead, word.value);
            await pinPeers(site.store, picked.state.crew.parties);
            reach(picked.state);
            return says((link, signal) => link.pick(picked.message, signal));
          }
          const shared = await share(ahead, word.value);
          await pinPeers(site.store, shared.state.group.parties);
          reach(shared.state);
          return shares(shared.message);
        }
        case "picks": {
          const ahead = await ready({ kind: "picks", message: word.value });
          const shared = await sharePicked(ahead, word.value);
          reach(shared.state);
          return shares(shared.message);
        }
        case "delivery": {
          const masked = mask(state, word.value, vector());
          reach(masked.state);
          return upload(word.value.session, masked.packed);
        }
        case "survivors": {
          const attested = attest(state, word.value);
          reach(attested.state);
          return says((link, signal) => link.attest(attested.message, signal));
        }
        case "attestations": {
          const ahead = await ready({ kind: "attestations", message: word.value });
          const revealed = reveal(ahead, word.value);
          reach(revealed.state);
          return says((link, signal) => link.reveal(revealed.message, signal));
        }
        default:
          return unreachable(word);
      }
    },
    close: () => erase(state),
  };
}

const STAGES: readonly DeviceState["stage"][] = [
  "advertised",
  "picked",
  "shared",
  "masked",
  "attested",
  "revealed",
];

function memberOf(site: Site): Member {
  const { identity, policy, secret, ledger, agree, agreeAll } = site;
  const { name, certificate, key } = identity;
  const own = { name, certificate, key, floor: policy.floor, random: secret, ledger };
  return { ...own, ...trustOf(site), ...(agree && { agree }), ...(agreeAll && { agreeAll }) };
}

function says(send: Answer["send"]): Answer {
  return { uploads: false, send };
}

/** Envelopes go without their sender's name: the coordinator knows who calls. */
function shares(request: ShareRequest): Answer {
  const envelopes = request.envelopes.map((envelope) => ({ ...envelope, from: "" }));
  return says((link, signal) => link.share({ ...request, envelopes }, signal));
}

function upload(session: Uint8Array, packed: Uint8Array): Answer {
  return { uploads: true, send: (link, signal) => link.upload(uploadParts(session, packed), signal) };
}

function same(terms: Terms, own: Terms): boolean {
  return equalBytes(encode(TermsSchema, terms), encode(TermsSchema, own));
}

/**
 * Another model, task, attempt or vector than the one this device trained for is never masked
 * (docs/protocol.md, Session id).
 */
function mustAgree(terms: Terms, own: Terms): void {
  const show = ({ round, attempt, bits, length }: Terms) =>
    `round ${round}, attempt ${attempt}, ${length} words of ${bits} bits, its model and task`;
  demand(
    same(terms, own),
    () => new Fault("refused", "session's terms", { expected: show(own), got: show(terms) }),
  );
}
