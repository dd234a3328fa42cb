import { randomInt } from "node:crypto";
import type { Client } from "@grpc/grpc-js";
import type { Clock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { isOtherCertificate, leaderBehind } from "@tutti/wire/status";
import { FIRST_DELAY_MS, mayPass } from "../backoff.ts";

/** The coordinators of a federation, of which one leads: a connection to each, and which is asked now. */
export class Ring {
  readonly #made = new Map<string, Client>();
  readonly addresses: readonly string[];
  readonly #make: (address: string) => Client;
  #at = 0;

  /** Connections are made when they are first asked for. */
  constructor(addresses: readonly string[], make: (address: string) => Client) {
    this.addresses = [...new Set(addresses)];
    this.#make = make;
  }

  get size(): number {
    return this.addresses.length;
  }

  /** Whom `client` is a connection to. */
  get address(): string {
    return this.addresses[this.#at]!;
  }

  get client(): Client {
    const { address } = this;
    const client = this.#made.get(address) ?? this.#make(address);
    this.#made.set(address, client);
    return client;
  }

  /** Goes on to the next, unless somebody has since this one was asked. */
  leave(client: Client): void {
    if (this.client === client) this.#at = (this.#at + 1) % this.size;
  }

  /** Goes on over new connections; calls on the old ones come to their end there. */
  renew(): void {
    this.close();
    this.#made.clear();
  }

  close(): void {
    for (const client of this.#made.values()) client.close();
  }
}

/** Whether another coordinator may answer where this one did not; one that says when to come again leads. */
export function isElsewhere(error: unknown): boolean {
  const fault = asFault(error);
  return mayPass(fault) && fault.detail.retryAfterMs === undefined;
}

type Asking = {
  readonly ring: Ring;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  /** How long to go round again while none of them leads. */
  readonly patienceMs: number;
  /** Whether the one that showed a certificate that is not pinned says, signed, that it is its own now. */
  readonly repinned?: (address: string) => Promise<boolean>;
};

/**
 * Asks one after the other until one answers. One that shows another certificate than is pinned may lead: it
 * is asked at once whether that is its own. @throws what each of them said, because of such a certificate
 * where one showed it.
 */
export async function askAround<T>(
  ask: (client: Client) => Promise<T>,
  { ring, clock, signal, patienceMs, repinned = async () => false }: Asking,
): Promise<T> {
  let roundMs = clock.nowMs();
  const untilMs = roundMs + patienceMs;
  let other: unknown;
  const said = new Map<string, unknown>();
  const vouched = new Set<string>();
  for (let asked = 0; ; ) {
    const { client, address } = ring;
    try {
      return await ask(client);
    } catch (error) {
      const isOther = isOtherCertificate(error);
      // Once: a coordinator that shows one after another would have us turn in circles.
      if (isOther && !vouched.has(address) && (await repinned(address))) {
        vouched.add(address);
        ring.renew();
        continue;
      }
      if (ring.size === 1 || !isElsewhere(error) || signal?.aborted) throw error;
      ring.leave(client);
      said.set(address, error);
      if (isOther) other = error;
      if (++asked % ring.size !== 0) continue;
      // One that is slow to say no, since it lost its database, may have cost all the time: once more round.
      if (roundMs >= untilMs) throw nobodyLeads(said, other ?? error);
      other = undefined;
      await clock.sleep(randomInt(FIRST_DELAY_MS, 2 * FIRST_DELAY_MS), signal);
      roundMs = clock.nowMs();
    }
  }
}

/** That one is off is less than half the story where another stands by and nobody leads. */
function nobodyLeads(said: ReadonlyMap<string, unknown>, cause: unknown): Fault {
  const each = [...said].map(([address, error]) => {
    const { message, detail } = asFault(error);
    const got = isOtherCertificate(error) ? "another TLS certificate than is pinned" : detail.got;
    return `${address}: ${got ?? message}`;
  });
  const isOther = isOtherCertificate(cause);
  const standby = [...said.values()].find((error) => leaderBehind(error) !== undefined);
  const todo = isOther
    ? VOUCHING
    : standby
      ? "Those that stand by wait for their database: see that it runs; `tutti doctor` there says more"
      : "Is one of them running (`tutti serve`), and are these their addresses?";
  return new Fault(asFault(cause).code, "coordinators", {
    expected: "one that leads",
    got: each.join("; "),
    todo,
    // One that answers says more than one that is off.
    cause: isOther ? cause : (standby ?? cause),
  });
}

const VOUCHING =
  "Only the one that leads vouches for a new certificate: see that one does (`tutti doctor` there). " +
  "If one does, somebody else answers here: ask the operator";
