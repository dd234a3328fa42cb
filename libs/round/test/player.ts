import { unpackBits } from "@tutti/kernels/pack";
import { advertise } from "@tutti/secagg/device/advertise";
import { attest } from "@tutti/secagg/device/attest";
import { mask } from "@tutti/secagg/device/mask";
import { pick } from "@tutti/secagg/device/pick";
import { reveal } from "@tutti/secagg/device/reveal";
import { share, sharePicked } from "@tutti/secagg/device/share";
import { type DeviceState, furthest } from "@tutti/secagg/device/state";
import { FULL_GRAPH } from "@tutti/secagg/threshold";
import type { JournalEntry } from "@tutti/wire/journal";
import type { Instruction } from "@tutti/wire/round";
import type { Terms } from "@tutti/wire/secagg";
import { memberOf } from "./cast.ts";

/** What a device answers to a word: an event, with the vector (unpacked words) where it is an upload. */
export type Answer = {
  readonly event: JournalEntry["event"];
  readonly vector?: Uint32Array;
  /** The session that an upload says it is for; absent where there are no masks. */
  readonly session?: Uint8Array;
};

/** A device: real secure-sum code behind the words of a round. A repeated word repeats the answer. */
export class Player {
  readonly name: string;
  /** Its quantised update: what the sum must hold once, or not at all. */
  words: Uint32Array;
  #terms: Terms | null = null;
  #state: DeviceState | null = null;
  #opened: Answer | null = null;
  readonly #member;

  constructor(name: string, words: Uint32Array = new Uint32Array()) {
    this.name = name;
    this.words = words;
    this.#member = memberOf(name);
  }

  /** @throws Fault where the device's own checks refuse the word. */
  async answer({ word }: Instruction): Promise<Answer> {
    switch (word.case) {
      case "invite":
        return { event: { case: "ready", value: true } };
      case "openSession":
        return this.#open(word.value.terms!);
      case "roster": {
        if (word.value.members.length > FULL_GRAPH) {
          const { message } = this.#reach(pick(this.#held(), word.value));
          return { event: { case: "picked", value: message } };
        }
        const { message } = this.#reach(await share(this.#held(), word.value));
        return { event: { case: "shared", value: message } };
      }
      case "picks": {
        const { message } = this.#reach(await sharePicked(this.#held(), word.value));
        return { event: { case: "shared", value: message } };
      }
      case "delivery": {
        const { packed } = this.#reach(mask(this.#held(), word.value, this.words));
        const { bits, length } = this.#terms!;
        const vector = unpackBits(packed, bits, length);
        return { event: { case: "uploaded", value: true }, vector, session: word.value.session };
      }
      case "survivors": {
        const { message } = this.#reach(attest(this.#held(), word.value));
        return { event: { case: "attested", value: message } };
      }
      case "attestations": {
        const { message } = this.#reach(reveal(this.#held(), word.value));
        return { event: { case: "revealed", value: message } };
      }
      default:
        throw new Error(`${this.name} has no answer to ${word.case}`);
    }
  }

  /** Its process dies: keys are in memory alone; what it helped to open is on disk. */
  restart(): void {
    this.#state = null;
    this.#opened = null;
  }

  #open(terms: Terms): Answer {
    if (terms.plain) return { event: { case: "uploaded", value: true }, vector: this.words };
    if (this.#opened && this.#terms?.round === terms.round && this.#terms.attempt === terms.attempt)
      return this.#opened;
    const { state, message } = advertise(terms, this.#member);
    this.#terms = terms;
    this.#state = state;
    this.#opened = { event: { case: "advertised", value: message } };
    return this.#opened;
  }

  #held(): DeviceState {
    if (this.#state) return this.#state;
    throw new Error(`${this.name} holds no session`);
  }

  #reach<Outcome extends { readonly state: DeviceState }>(outcome: Outcome): Outcome {
    this.#state = furthest(this.#held(), outcome.state);
    return outcome;
  }
}
