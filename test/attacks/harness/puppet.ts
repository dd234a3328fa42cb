import type { Link } from "@tutti/client-sdk/link";
import { openLedger } from "@tutti/client-sdk/node/ledger";
import { openSession, type Session, type StageWord } from "@tutti/client-sdk/session";
import type { Site } from "@tutti/client-sdk/site";
import { nativeAgree, nativeVerify } from "@tutti/coordinator/native";
import { systemClock } from "@tutti/foundation/clock";
import { asFault } from "@tutti/foundation/fault";
import { DEFAULT_FLOOR } from "@tutti/secagg/device/member";
import { AckSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import type { Terms } from "@tutti/wire/secagg";
import { gathered } from "./attacker.ts";
import type { Actor, Answer, Sent, Word } from "./sent.ts";
import { type Papers, random } from "./world.ts";

/**
 * An honest device beside the one under attack: the device's own session code and ledger with a vector that
 * is given, and no network or training.
 */
export class Puppet implements Actor {
  readonly name: string;
  readonly papers: Papers;
  words: Uint32Array;
  readonly #site: Site;
  readonly #ledger: string;
  #own: Terms | null = null;
  #session: Session | null = null;

  constructor(papers: Papers, { authority, ledger }: { authority: Uint8Array; ledger: string }) {
    this.name = papers.name;
    this.papers = papers;
    this.words = new Uint32Array(0);
    const documents = new Map<string, string>();
    const store = {
      document: async (name: string) => documents.get(name) ?? null,
      putDocument: async (name: string, text: string) => void documents.set(name, text),
    };
    const identity = { ...papers, authority, federation: "attacks" };
    const site = { identity, policy: { floor: DEFAULT_FLOOR }, secret: random, store };
    const native = { clock: systemClock(), verify: nativeVerify, agree: nativeAgree };
    this.#site = { ...site, ...native } as unknown as Site;
    this.#ledger = ledger;
    this.restart();
  }

  /** As a process that begins again: what it had in memory is gone. */
  restart(): void {
    this.#session = null;
    Object.assign(this.#site, { ledger: openLedger(this.#ledger) });
  }

  /** What it was asked to do, and what came of it. */
  begin(own: Terms, words: Uint32Array): void {
    this.#own = own;
    this.words = words;
    this.#session = null;
  }

  async ask(word: Word): Promise<Answer> {
    const sent: Sent[] = [];
    try {
      const answer = await this.#answer(word);
      await answer?.send(recording(sent), new AbortController().signal);
      return { sent, faults: [] };
    } catch (error) {
      return { sent, faults: [asFault(error)] };
    }
  }

  async #answer(word: Word) {
    if (word.case !== "openSession") return await this.#session?.hear(word as StageWord);
    this.#session ??= openSession({ own: this.#own!, cohort: ANY, site: this.#site, words: this.words });
    return this.#session.open(word.value.terms!);
  }
}

/** What a puppet is in, its script decides. */
const ANY = { min: 2, max: 1000 };

function recording(sent: Sent[]): Link {
  const keep = (stage: Exclude<Sent["stage"], "upload">) => async (message: unknown) => {
    sent.push({ stage, message } as Sent);
    return create(AckSchema);
  };
  const link = {
    advertise: keep("advertise"),
    pick: keep("pick"),
    share: keep("share"),
    attest: keep("attest"),
    reveal: keep("reveal"),
    upload: async (parts: Parameters<Link["upload"]>[0]) => {
      sent.push({ stage: "upload", message: await gathered(parts) });
      return create(AckSchema);
    },
  };
  return link as unknown as Link;
}
