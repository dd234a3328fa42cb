import type { Clock } from "@tutti/foundation/clock";
import type { Round } from "@tutti/round/round";

const LONGEST_SLEEP_MS = 2 ** 31 - 1;

/** How soon a run that waits finds that it waits no longer. */
const WAITS_MS = 2_000;

type DeadlineOptions = {
  readonly clock: Clock;
  /** Whether the run has too few devices because other runs have the rest. */
  readonly waits: () => boolean;
  /** "tick": the round's deadline passed; "recovered": its deadline starts anew. */
  readonly say: (event: "tick" | "recovered") => void;
};

/** Watches the deadline of one round, the last that it was armed for. */
export class Deadline {
  readonly #options: DeadlineOptions;
  #alarm = new AbortController();
  /** The round whose deadline passed while it waited for devices that others have. */
  #waited: Round["spec"] | null = null;

  constructor(options: DeadlineOptions) {
    this.#options = options;
  }

  arm(round: Round | null): void {
    this.off();
    if (round !== null && Number.isFinite(round.deadlineMs)) this.#at(round.deadlineMs, round);
  }

  off(): void {
    this.#alarm.abort();
  }

  #at(atMs: number, round: Round): void {
    const { clock } = this.#options;
    this.#alarm = new AbortController();
    // Of a moment further off than a timer reaches, earlier: then the round says that it is not yet.
    const waitMs = Math.min(Math.max(1, atMs - clock.nowMs()), LONGEST_SLEEP_MS);
    clock.sleep(waitMs, this.#alarm.signal).then(
      () => this.#due(round),
      () => {},
    );
  }

  /** Waiting for devices that others have is no failure of this run: its deadline starts anew after it. */
  #due(round: Round): void {
    const { clock, waits, say } = this.#options;
    if (round.phase === "gathering" && waits()) {
      this.#waited = round.spec;
      this.#at(clock.nowMs() + Math.min(WAITS_MS, round.spec.plan.deadlines.joinMs), round);
      return;
    }
    const waited = this.#waited === round.spec;
    this.#waited = null;
    say(waited ? "recovered" : "tick");
  }
}
