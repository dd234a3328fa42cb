import { asFault, type FaultCode } from "@tutti/foundation/fault";
import type { Round } from "@tutti/round/round";
import { backOffMs } from "./backoff.ts";
import type { Complete } from "./complete.ts";

/** How often a completion that storage or a dying thread interrupted is tried before its round fails. */
const TRIES = 5;
const TRIED_AGAIN: ReadonlySet<FaultCode> = new Set<FaultCode>(["storage", "unavailable"]);

export type CompletionOptions = {
  readonly complete: Complete;
  readonly sleep: (ms: number) => Promise<void>;
  /** Before each wait for another try. */
  readonly onFailure: (error: unknown, againMs: number) => void;
};

/** What an attempt came to, kept until it is written: unmasking a large sum again takes minutes. */
export class Completion {
  readonly #options: CompletionOptions;
  #kept: { readonly about: string; readonly done: ReturnType<Complete> } | null = null;

  constructor(options: CompletionOptions) {
    this.#options = options;
  }

  /** One completion of an attempt, though its round be read from the journal again meanwhile. */
  of(round: Round, at: Parameters<Complete>[1]): ReturnType<Complete> {
    const about = `${round.spec.task.round}/${round.spec.attempt}`;
    if (this.#kept?.about !== about) this.#kept = { about, done: this.#try(round, at) };
    return this.#kept.done;
  }

  /** It is written, or will not be. */
  forget(): void {
    this.#kept = null;
  }

  /** The round's devices open no second sum of it, so whatever may pass gets more than one chance. */
  async #try(round: Round, at: Parameters<Complete>[1]): ReturnType<Complete> {
    const { complete, sleep, onFailure } = this.#options;
    for (let tries = 1; ; tries++) {
      try {
        return await complete(round, at);
      } catch (error) {
        if (tries === TRIES || !TRIED_AGAIN.has(asFault(error).code)) throw error;
        const againMs = backOffMs(tries);
        onFailure(error, againMs);
        await sleep(againMs);
      }
    }
  }
}
