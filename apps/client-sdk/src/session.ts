import type { Detail, Note } from "@tutti/audit/entry";
import { equalBytes, hex } from "@tutti/foundation/bytes";
import { demand, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { packBits } from "@tutti/kernels/pack";
import { plainSessionId } from "@tutti/round/spec";
import { advertise } from "@tutti/secagg/device/advertise";
import { type SignedWord, verifyAhead } from "@tutti/secagg/device/ahead";
import { attest } from "@tutti/secagg/device/attest";
import { erase } from "@tutti/secagg/device/erase";
import { checkDelivery, mask } from "@tutti/secagg/device/mask";
import type { Floor, Member } from "@tutti/secagg/device/member";
import { pick } from "@tutti/secagg/device/pick";
import { reveal } from "@tutti/secagg/device/reveal";
import { share, sharePicked } from "@tutti/secagg/device/share";
import { type DeviceState, furthest, outOfOrder } from "@tutti/secagg/device/state";
import { FULL_GRAPH } from "@tutti/secagg/threshold";
import { create, encode } from "@tutti/wire/message";
import type { Instruction } from "@tutti/wire/round";
import {
  type Advertisement,
  AdvertiseRequestSchema,
  type Delivery,
  type Picks,
  type Roster,
  type ShareRequest,
  type Terms,
  TermsSchema,
} from "@tutti/wire/secagg";
import type { Link } from "./link.ts";
import { pinPeers } from "./peers.ts";
import { admitMembers } from "./revoked.ts";
import { type Site, trustOf } from "./site.ts";
import { uploader, type Way } from "./upload.ts";
import type { Words } from "./vector.ts";

type Case = "roster" | "picks" | "delivery" | "survivors" | "attestations";
/** A word that carries a session forward. */
export type StageWord = Extract<Instruction["word"], { case: Case }>;

/**
 * What the device answers: `send` may be repeated, as the coordinator takes the same message once. With a
 * `way`, an upload that is cut goes on by itself.
 */
export type Answer = {
  readonly uploads: boolean;
  /** What leaves with it that the audit log tells of. */
  readonly leaves?: Pick<Note, "what" | "subject" | "detail">;
  send(link: Link, signal: AbortSignal, way?: Way): Promise<unknown>;
};

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
  /** The plan's sizes of a sum: the owner signed them, and a coordinator does not choose others. */
  readonly cohort: { readonly min: number; readonly max: number };
  /** The quantised vector, in the ring; under noise, made once it is known who is in the sum. */
  readonly words: Words;
  readonly site: Site;
};

export function openSession(options: SessionOptions): Session {
  return options.own.plain ? plainSession(options) : new SecureSession(options);
}

/** No masks: the plan turned them off, and `permit` found that the policy allows it. */
function plainSession({ own, words }: SessionOptions): Session {
  const session = plainSessionId(own);
  demand(
    words instanceof Uint32Array,
    () => new Fault("refused", "session", { expected: "masks under noise", got: "none" }),
  );
  let answer: Answer | null = null;
  return {
    isFor: (terms) => same(terms, own),
    open: (terms) => {
      mustAgree(terms, own);
      // The same when the word is said again: it knows what it sent.
      answer ??= upload(session, packBits(words, own.bits), { masked: false });
      return answer;
    },
    hear: async (word) => {
      throw new Fault("refused", word.case, { expected: "no stage of a session without masks" });
    },
    close: () => {},
  };
}

/** Bonawitz et al. 2017, Fig. 4, a stage per word; libs/secagg checks each and answers it once. */
class SecureSession implements Session {
  readonly #options: SessionOptions;
  readonly #advertisement: Advertisement;
  #state: DeviceState;
  /** One draw of noise a session, however often its delivery is said. */
  #drawn: Uint32Array | null = null;
  #upload: Answer | null = null;

  constructor(options: SessionOptions) {
    const { own, cohort, site } = options;
    const { state, message } = advertise(own, memberOf(site, cohort));
    this.#options = options;
    this.#state = state;
    this.#advertisement = message;
  }

  isFor(terms: Terms): boolean {
    return same(terms, this.#options.own);
  }

  open(given: Terms): Answer {
    const terms = this.#options.own;
    mustAgree(given, terms);
    const request = create(AdvertiseRequestSchema, { terms, advertisement: this.#advertisement });
    return says((link, signal) => link.advertise(request, signal));
  }

  async hear(word: StageWord): Promise<Answer> {
    switch (word.case) {
      case "roster":
        return word.value.members.length > FULL_GRAPH ? this.#pick(word.value) : this.#share(word.value);
      case "picks":
        return this.#sharePicked(word.value);
      case "delivery":
        return this.#mask(word.value);
      case "survivors": {
        const { message } = this.#reach(attest(this.#state, word.value));
        return says((link, signal) => link.attest(message, signal));
      }
      case "attestations": {
        const ahead = await this.#ahead({ kind: "attestations", message: word.value });
        const { message } = this.#reach(reveal(ahead, word.value));
        const leaves = {
          what: "shares.leave",
          subject: hex(message.session),
          detail: { shares: message.shares.length },
        };
        return { ...says((link, signal) => link.reveal(message, signal)), leaves };
      }
      default:
        return unreachable(word);
    }
  }

  close(): void {
    erase(this.#state);
  }

  async #pick(roster: Roster): Promise<Answer> {
    const picked = pick(await this.#ahead({ kind: "roster", message: roster }), roster);
    await admitMembers(this.#options.site.store, roster);
    await pinPeers(this.#options.site.store, picked.state.crew.parties);
    this.#reach(picked);
    return says((link, signal) => link.pick(picked.message, signal));
  }

  async #share(roster: Roster): Promise<Answer> {
    const shared = await share(await this.#ahead({ kind: "roster", message: roster }), roster);
    await admitMembers(this.#options.site.store, roster);
    await pinPeers(this.#options.site.store, shared.state.group.parties);
    return shares(this.#reach(shared).message);
  }

  async #sharePicked(picks: Picks): Promise<Answer> {
    const ahead = await this.#ahead({ kind: "picks", message: picks });
    return shares(this.#reach(await sharePicked(ahead, picks)).message);
  }

  #mask(delivery: Delivery): Answer {
    const state = this.#state;
    if (state.stage === "shared" && this.#drawn === null) {
      // A delivery that is refused costs no noise and no budget.
      checkDelivery(state, delivery);
      const { words } = this.#options;
      this.#drawn = words instanceof Uint32Array ? words : words(state.group);
    }
    if (this.#drawn === null) throw outOfOrder(state, "shared");
    const { packed } = this.#reach(mask(state, delivery, this.#drawn));
    // The same when the word is said again: it knows what it sent.
    this.#upload ??= upload(delivery.session, packed, {
      masked: true,
      noise: !(this.#options.words instanceof Uint32Array),
    });
    return this.#upload;
  }

  /** The state to take a word with: with its signatures verified, where that takes the platform time. */
  async #ahead(word: SignedWord): Promise<DeviceState> {
    const { verifyAll } = this.#options.site;
    return verifyAll ? verifyAhead(this.#state, word, verifyAll) : this.#state;
  }

  #reach<Outcome extends { readonly state: DeviceState }>(outcome: Outcome): Outcome {
    this.#state = furthest(this.#state, outcome.state);
    return outcome;
  }
}

/** In no smaller sum than its policy and the plan both allow, and in no larger one than the plan's. */
function memberOf(site: Site, { min, max }: SessionOptions["cohort"]): Member {
  const { identity, policy, secret, ledger, agree, agreeAll } = site;
  const { name, certificate, key } = identity;
  const own = {
    name,
    certificate,
    key,
    floor: { ...policy.floor, ...atLeast(policy.floor, min) },
    most: max,
    random: secret,
    ledger,
  };
  return { ...own, ...trustOf(site), ...(agree && { agree }), ...(agreeAll && { agreeAll }) };
}

function atLeast({ devices, survivors }: Floor, min: number): Pick<Floor, "devices" | "survivors"> {
  return { devices: Math.max(devices, min), survivors: Math.max(survivors, min) };
}

function says(send: Answer["send"]): Answer {
  return { uploads: false, send };
}

/** Envelopes go without their sender's name: the coordinator knows who calls. */
function shares(request: ShareRequest): Answer {
  const envelopes = request.envelopes.map((envelope) => ({ ...envelope, from: "" }));
  return says((link, signal) => link.share({ ...request, envelopes }, signal));
}

function upload(session: Uint8Array, packed: Uint8Array, how: Detail): Answer {
  const leaves = { what: "update.leaves", subject: hex(session), detail: { bytes: packed.length, ...how } };
  return { uploads: true, leaves, send: uploader(session, packed) };
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
