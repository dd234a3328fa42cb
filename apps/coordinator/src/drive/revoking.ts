import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { NAME } from "@tutti/identity/name";
import type { SignedEnvelope } from "@tutti/wire/release";
import { failpoint } from "../failpoint.ts";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import type { Notices } from "../registry/notices.ts";
import type { Store } from "../store/store.ts";
import { backOffMs } from "./backoff.ts";
import type { Driver } from "./driver.ts";
import type { Presence } from "./presence.ts";
import { unconfirmed } from "./waiting.ts";

export type RevokingParts = {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly notices: Notices;
  readonly presence: () => Presence;
  readonly drivers: () => readonly Driver[];
};

/** Failures in a row until who asked hears of them. */
const TRIES = 3;

/**
 * How devices are revoked: in the store first, then in every round in progress. A write of which nobody heard
 * the end may be durable: what the store says is read again, and done (docs/reliability.md, promise 1).
 */
export class Revoking {
  readonly #parts: RevokingParts;
  /** Who may be revoked, or is, and may still be in a round. */
  readonly #owing = new Set<string>();
  readonly #closing = new AbortController();

  constructor(parts: RevokingParts) {
    this.#parts = parts;
  }

  /** See Coordinator.revoke. Whether it was not revoked before, as far as storage says. */
  async revoke(device: string, envelope: SignedEnvelope | undefined, by: string): Promise<boolean> {
    const { notices, store } = this.#parts;
    const unknown = () =>
      new Fault("not-found", `device ${device.slice(0, 64)}`, { expected: "an enrolled one" });
    // Over one that it cannot take a database fails, however often it is asked (PostgreSQL takes no NUL).
    demand(NAME.test(device), unknown);
    const before = await store.device(device).catch(() => undefined);
    await this.#catchUp();
    const list = envelope ? notices.nextRevocations(envelope, device) : null;
    const known = await store.trust
      .revoke(device, list?.statement ?? null, by)
      .catch((cause) => this.#isThere(device, { hasList: list !== null, cause }));
    demand(known, unknown);
    failpoint("revoke.durable");
    list?.kept();
    await this.#dismissed(device);
    failpoint("revoke.expelled");
    return !before?.revoked;
  }

  /** Whom a round still counts on though it was revoked, by a coordinator that was killed right after. */
  async dismissFrom({ round }: Driver): Promise<void> {
    const there = [...new Set([...(round?.connected ?? []), ...(round?.invited ?? [])])];
    for (const name of there) {
      const device = await this.#parts.store.device(name);
      if (device?.revoked && !round?.revoked.has(name)) await this.#dismiss(name);
    }
  }

  close(): void {
    this.#closing.abort();
  }

  /** Takes up a list that is durable though nobody heard so, and has out whom it adds. */
  async #catchUp(): Promise<void> {
    const added = await this.#parts.notices.takeUpRevocations();
    await Promise.all(added.map((name) => this.#dismissed(name)));
  }

  /** Whether a write that failed is durable all the same. @throws its cause, or why nobody can say. */
  async #isThere(device: string, { hasList, cause }: { hasList: boolean; cause: unknown }): Promise<true> {
    let isThere: boolean;
    try {
      isThere = (await this.#isRevoked(device)) && (!hasList || this.#parts.notices.isListed(device));
    } catch (again) {
      this.#later(device).catch(() => {});
      throw unconfirmed(again);
    }
    if (isThere) return true;
    throw cause;
  }

  /** What the store says once nothing is under way that may change it, and nobody hear of it. */
  async #isRevoked(device: string): Promise<boolean> {
    const { store } = this.#parts;
    await store.trust.outwait();
    await this.#catchUp();
    return (await store.device(device))?.revoked === true;
  }

  /** Out of every round, and others told. @throws where storage keeps failing; it goes on all the same. */
  async #dismissed(device: string): Promise<void> {
    const { signal } = this.#closing;
    for (let failures = 1; ; failures++) {
      try {
        await this.#dismiss(device);
        return this.#parts.notices.tell();
      } catch (error) {
        this.#trouble(error, device);
        if (failures < TRIES && !signal.aborted) await this.#pause(failures).catch(() => {});
        else {
          this.#later(device).catch(() => {});
          throw unconfirmed(error);
        }
      }
    }
  }

  /** Until it is known whether a device is revoked, and whoever is has no part in anything here. */
  async #later(device: string): Promise<void> {
    if (this.#owing.has(device)) return;
    this.#owing.add(device);
    for (let failures = 1; this.#owing.has(device); failures++) {
      await this.#pause(failures);
      try {
        if (await this.#isRevoked(device)) await this.#dismiss(device);
        this.#parts.notices.tell();
        this.#owing.delete(device);
      } catch (error) {
        this.#trouble(error, device);
      }
    }
  }

  /** Ends what a revoked device has here: its stream, and its part in every round. */
  async #dismiss(device: string): Promise<void> {
    const { presence, drivers } = this.#parts;
    presence().expel(device);
    const rounds = drivers().filter(({ round }) => round !== null);
    await Promise.all(
      rounds.map((driver) =>
        driver.submit(device, { case: "revoked", value: true }).catch((error: unknown) => {
          // Its run ended meanwhile.
          if (driver.round !== null) throw error;
        }),
      ),
    );
  }

  #pause(failures: number): Promise<void> {
    return this.#parts.clock.sleep(backOffMs(failures), this.#closing.signal);
  }

  #trouble(error: unknown, device: string): void {
    logTrouble(this.#parts.log, error, { doing: "revoking a device", device });
  }
}
