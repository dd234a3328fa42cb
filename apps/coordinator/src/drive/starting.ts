import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { openPlan } from "@tutti/release/plan";
import { checkPrivacy } from "@tutti/round/privacy";
import { afterResume, firstHeader } from "@tutti/round/run";
import { RunHeaderSchema } from "@tutti/wire/journal";
import { encode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { failpoint } from "../failpoint.ts";
import type { Store } from "../store/store.ts";
import { isPassing } from "./backoff.ts";
import type { SignedRelease } from "./complete.ts";
import type { Driver } from "./driver.ts";
import { finished, over, shuttingDown } from "./over.ts";
import type { RunParts } from "./parts.ts";
import { mustHave, needs } from "./retention.ts";
import { decodeHeader } from "./run-store.ts";
import type { Runs } from "./runs.ts";

export type StartingParts = RunParts & { readonly runs: Runs };

/** A run that the store has not as running. */
type Beginning = { run: string; plan: Plan; envelope: SignedEnvelope; isKnown: boolean; by: string };

/** An invitation holds the signed plan beside the newest manifest and the task, in one message. */
const MAX_PLAN_BYTES = 512 << 10;

/** Each keeps its round and a running sum for each of its cohorts in memory. */
const MAX_RUNNING = 64;

/**
 * How runs begin, and go on after they were over: in the store first. A write of which nobody heard the end
 * may be durable: who asks again finds what the store has, and that is driven.
 */
export class Starting {
  readonly #parts: StartingParts;
  /** One after the other: two at once would both find no run in progress, or drive one run twice. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(parts: StartingParts) {
    this.#parts = parts;
  }

  /** See Coordinator.startRun. */
  start(envelope: SignedEnvelope, by: string): Promise<string> {
    return this.#inTurn(() => this.#start(envelope, by));
  }

  /** See Coordinator.resumeRun. */
  resume(run: string, by: string): Promise<void> {
    return this.#inTurn(() => this.#resume(run, by));
  }

  #inTurn<T>(job: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => {
      this.#mustBeOpen();
      return job();
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  #mustBeOpen(): void {
    if (this.#closed) throw shuttingDown();
  }

  /** Ends with the transaction under way: nothing is written after it, however far a start had come. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }

  async #write(run: string, change: Parameters<Store["commit"]>[1]): Promise<void> {
    this.#mustBeOpen();
    const written = this.#parts.store.commit(run, change);
    this.#writing = written.catch(() => {});
    await written;
  }

  async #start(envelope: SignedEnvelope, by: string): Promise<string> {
    const { plan, run } = this.#opened(envelope);
    const same = this.#parts.runs.find(run);
    if (same?.header.state === "running") return run;
    if (same) throw over({ run, name: plan.name }, same.header.state);
    this.#mustHaveRoom();
    checkPrivacy(plan);
    const known = await this.#parts.store.run(run);
    if (known && known.state !== "preparing") {
      // It was started, and storage failed before anybody could be told.
      const claimed = needs(plan, decodeHeader(known.header));
      await this.#claiming(run, { plan, claimed }, () => this.#parts.runs.driveAnew(run));
    } else {
      const claimed = [plan.base.sha256, plan.initial.sha256];
      const beginning = { run, plan, envelope, isKnown: known !== undefined, by };
      await this.#claiming(run, { plan, claimed }, () => this.#begin(beginning));
    }
    return run;
  }

  #opened(envelope: SignedEnvelope) {
    const bytes = encode(SignedEnvelopeSchema, envelope);
    demand(
      bytes.length <= MAX_PLAN_BYTES,
      () =>
        new Fault("bad-input", "plan", {
          expected: `at most ${MAX_PLAN_BYTES} bytes, so that an invitation can hold it`,
          got: `${bytes.length}`,
        }),
    );
    return openPlan(envelope, this.#parts.trust());
  }

  #mustHaveRoom(): void {
    const running = this.#parts.runs.drivers().filter(({ header }) => header.state === "running").length;
    demand(
      running < MAX_RUNNING,
      () =>
        new Fault("conflict", "run", {
          expected: `fewer than ${MAX_RUNNING} runs in progress`,
          got: `${running}`,
          todo: "Stop one or wait",
        }),
    );
  }

  /**
   * Does a job under a claim on these files: retention removes none of them before the store says that the
   * run needs them.
   */
  async #claiming(
    run: string,
    { plan, claimed }: { plan: Plan; claimed: readonly string[] },
    job: () => Promise<void>,
  ): Promise<void> {
    const { retention, artifacts } = this.#parts;
    try {
      await retention.claim(run, claimed);
      await mustHave(artifacts, plan);
      await job();
      retention.unclaim(run);
    } catch (error) {
      // Where storage failed the run may be there all the same, and will need them.
      if (!isPassing(error)) retention.unclaim(run);
      throw error;
    }
  }

  async #begin({ run, plan, envelope, isKnown, by }: Beginning): Promise<void> {
    const { store, runs } = this.#parts;
    failpoint("run.checked");
    const first = this.#initialRelease(run, plan);
    const header = encode(
      RunHeaderSchema,
      firstHeader({ version: 0, manifest: first.digest, adapter: plan.initial.sha256 }),
    );
    const planBytes = encode(SignedEnvelopeSchema, envelope);
    if (!isKnown) await store.addRun({ run, name: plan.name, plan: planBytes, header, state: "preparing" });
    const release = {
      version: 0,
      digest: first.digest,
      envelope: encode(SignedEnvelopeSchema, first.envelope),
    };
    const { name, rounds } = plan;
    const note = { actor: by, what: "run.started", subject: run, detail: { name, rounds } };
    await this.#write(run, { header, state: "running", release, note });
    failpoint("run.running");
    await runs.driveAnew(run);
    failpoint("run.driven");
  }

  async #resume(run: string, by: string): Promise<void> {
    const driver = this.#parts.runs.driver(run);
    const { header } = driver;
    const { plan } = driver.options;
    if (header.state === "running") return;
    demand(header.state !== "finished", () => finished(plan.name));
    this.#mustHaveRoom();
    await this.#claiming(run, { plan, claimed: needs(plan, header) }, () => this.#goOn(driver, by));
  }

  async #goOn({ header, options: { run, plan } }: Driver, by: string): Promise<void> {
    const { runs, log } = this.#parts;
    const next = afterResume(plan, header);
    const about = { round: next.round, attempt: next.attempt };
    const note = { actor: by, what: "run.resumed", subject: run, detail: about };
    const resumed = { header: encode(RunHeaderSchema, next), state: next.state, note };
    await runs.withhold(run);
    const failure: unknown = await this.#write(run, resumed).then(
      () => null,
      (cause) => cause,
    );
    failpoint("run.resumed");
    // Whatever became of that write: what is durable is driven, and no other.
    await runs.driveAnew(run);
    if (failure !== null && runs.find(run)?.header.state !== "running") throw failure;
    log.say("run.resumed", { run: run.slice(0, 12), by, ...about });
  }

  #initialRelease(run: string, plan: Plan): SignedRelease {
    const release = releaseOf(plan, {
      run,
      version: 0,
      round: 0,
      adapter: plan.initial,
      parent: null,
      cohorts: [],
      transcript: null,
      wallMs: this.#parts.clock.wallMs(),
    });
    const envelope = signRelease(release, this.#parts.federation.coordinator);
    return { version: 0, digest: sha256Hex(envelope.payload), envelope };
  }
}
