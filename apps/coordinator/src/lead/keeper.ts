import type { Clock } from "@tutti/foundation/clock";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import type { Engine } from "../store/engine.ts";
import { type Lease, readLease, releaseLease, renewLease, takeLease } from "../store/lease.ts";
import {
  LEASE_MS,
  LEFT_MS,
  look,
  MARGIN_MS,
  mayAsk,
  POLL_MS,
  pauseMs,
  RENEW_MS,
  type Sight,
} from "./sight.ts";

/** What this process is to its federation; a standby says where the leader is, as far as it knows. */
export type Role =
  | { readonly kind: "leader"; readonly epoch: number }
  | { readonly kind: "standby"; readonly leader: string | null };

/** What a leader does from the moment it has an epoch until it ends; a process may have several in turn. */
export type Reign = {
  /** Resolves when nothing of it writes or answers any more. */
  end(): Promise<void>;
};

export type KeeperOptions = {
  readonly engine: Engine;
  /** Unlike any other process's. */
  readonly holder: string;
  /** Where clients find this process, "host:port". */
  readonly address: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Takes up the federation's runs under this epoch. */
  readonly reign: (epoch: number) => Promise<Reign>;
  /** Told at once of every change. */
  readonly onRole: (role: Role) => void;
};

/**
 * Leads while it holds the lease, stands by while it does not. A leader that cannot renew in time stops
 * before anybody else can take the lease; one that was stopped itself finds its writes refused.
 */
export class Keeper {
  role: Role = { kind: "standby", leader: null };
  readonly #options: KeeperOptions;
  readonly #closing = new AbortController();
  #wake = new AbortController();
  /** Until then, on our own clock, nobody else can have the lease. */
  #untilMs = Number.NEGATIVE_INFINITY;
  /** When the lease was asked for, or its last renewal that succeeded. */
  #askedMs = Number.NEGATIVE_INFINITY;
  #working: Promise<void> = Promise.resolve();
  readonly #endings = new Set<Promise<void>>();

  constructor(options: KeeperOptions) {
    this.#options = options;
    options.engine.onHint(() => this.#wake.abort());
    options.engine.onLeft(() => this.#left());
  }

  start(): void {
    this.#working = this.#work();
  }

  /** Whether the lease is this process's own now, as far as its own clock can tell. */
  holds(): boolean {
    return this.role.kind === "leader" && this.#options.clock.nowMs() < this.#untilMs;
  }

  /** Ends the reign in order and releases the lease, so that a standby takes it at once. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake.abort();
    await this.#working;
    await Promise.all(this.#endings);
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #work(): Promise<void> {
    let sight: Sight | null = null;
    while (!this.#closed) {
      try {
        sight = look(sight, await readLease(this.#options.engine), this.#options.clock.nowMs());
        this.#standBy(sight.lease);
        if (await this.#tryToLead(sight)) sight = null;
        else await this.#pause(pauseMs(sight));
      } catch (error) {
        logTrouble(this.#options.log, error, { doing: "looking at the lease" });
        await this.#pause(POLL_MS);
      }
    }
  }

  #standBy({ leftMs, address }: Lease): void {
    const leader = leftMs > 0 && address !== this.#options.address ? address : null;
    if (this.role.kind === "standby" && this.role.leader === leader) return;
    this.#become({ kind: "standby", leader });
  }

  #become(role: Role): void {
    this.role = role;
    this.#options.onRole(role);
  }

  /** True after a reign, however it ended. */
  async #tryToLead(sight: Sight): Promise<boolean> {
    const { engine, holder, address, clock } = this.#options;
    const why = mayAsk(sight, clock.nowMs());
    if (why === null) return false;
    const askedMs = clock.nowMs();
    const still = why === "over" ? undefined : sight.lease;
    const epoch = await takeLease(engine, { holder, address, leaseMs: LEASE_MS, still });
    if (epoch === null) return false;
    this.#renewed(askedMs);
    await this.#lead(epoch);
    return true;
  }

  async #lead(epoch: number): Promise<void> {
    const { engine, log, reign } = this.#options;
    log.say("lead.began", { epoch });
    this.#become({ kind: "leader", epoch });
    const over = new AbortController();
    const begun = reign(epoch);
    // A reign that cannot begin, since storage failed: whoever may be better off should have the lease.
    begun.catch((error) => {
      logTrouble(log, error, { doing: "taking up runs", epoch });
      over.abort();
    });
    await this.#renewing(epoch, over.signal);
    const because = this.#closed ? "shutdown" : over.signal.aborted ? "trouble" : "lost";
    log.say("lead.ended", { epoch, because });
    this.#untilMs = Number.NEGATIVE_INFINITY;
    this.#become({ kind: "standby", leader: null });
    const ended = begun.then(
      (it) => it.end(),
      () => {},
    );
    this.#track(ended.catch((error) => logTrouble(log, error, { doing: "ending a reign", epoch })));
    if (because === "lost") return;
    // Released only when nothing of it writes any more: whoever leads next need not wait for it.
    await ended.catch(() => {});
    await releaseLease(engine, epoch).catch((error) =>
      logTrouble(log, error, { doing: "releasing the lease" }),
    );
    if (because === "trouble") await this.#pause(RENEW_MS);
  }

  #renewed(askedMs: number): void {
    this.#askedMs = askedMs;
    this.#untilMs = askedMs + LEASE_MS - MARGIN_MS;
  }

  /** To others this process may have left the database: it renews at once, or soon serves no longer. */
  #left(): void {
    this.#untilMs = Math.min(this.#untilMs, this.#askedMs + LEFT_MS - MARGIN_MS);
    this.#wake.abort();
  }

  #track(ending: Promise<void>): void {
    this.#endings.add(ending);
    void ending.finally(() => this.#endings.delete(ending));
  }

  /** Returns when the lease is lost, or may be soon, or is no longer wanted. */
  async #renewing(epoch: number, over: AbortSignal): Promise<void> {
    const { engine, clock, log } = this.#options;
    let pause = RENEW_MS;
    while (!this.#closed && !over.aborted) {
      const leftMs = this.#untilMs - clock.nowMs();
      if (leftMs <= 0) return;
      await this.#pause(Math.min(pause, leftMs), over);
      const askedMs = clock.nowMs();
      const racing = new AbortController();
      const late = clock.sleep(Math.max(0, this.#untilMs - askedMs), racing.signal).then(
        () => "late" as const,
        () => "late" as const,
      );
      const renewed = renewLease(engine, { epoch, leaseMs: LEASE_MS }).catch((error) => {
        logTrouble(log, error, { doing: "renewing the lease", epoch });
        return "failed" as const;
      });
      const met = this.#closed || over.aborted ? "unwanted" : await Promise.race([renewed, late]);
      racing.abort();
      if (met === true) this.#renewed(askedMs);
      if (met === false || met === "late" || met === "unwanted") return;
      pause = met === true ? RENEW_MS : RENEW_MS / 4;
    }
  }

  /** Until then, or a hint, or `also`. */
  async #pause(ms: number, also?: AbortSignal): Promise<void> {
    if (this.#closed || also?.aborted) return;
    this.#wake = new AbortController();
    const wake = () => this.#wake.abort();
    also?.addEventListener("abort", wake, { once: true });
    await this.#options.clock.sleep(ms, this.#wake.signal).catch(() => {});
    also?.removeEventListener("abort", wake);
  }
}
