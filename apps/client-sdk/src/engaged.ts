import { Fault } from "@tutti/foundation/fault";

/**
 * Which run's round this device is in, as far as it was told: one at a time, whatever a coordinator asks. A
 * round ends for it when it hears that it does (excused, a release, the run's end), when it declines, and
 * when the stream is lost: on a new one the coordinator says what is so.
 */
export class Engagement {
  #run: string | null = null;

  /** @throws Fault("conflict") while another run's round goes on. */
  enter(run: string): void {
    if (this.#run !== null && this.#run !== run)
      throw new Fault("conflict", "another run's round", {
        expected: "to hear that it is over first",
        got: `an invitation of run ${run.slice(0, 12)}`,
      });
    this.#run = run;
  }

  leave(run: string): void {
    if (this.#run === run) this.#run = null;
  }

  reset(): void {
    this.#run = null;
  }
}
