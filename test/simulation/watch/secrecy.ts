import { thresholdFor } from "@tutti/secagg/threshold";
import type { RevealRequest } from "@tutti/wire/secagg";
import { POLICY } from "../device.ts";
import { type Asked, type Told, Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";
import type { Session, Sessions } from "./sessions.ts";

/** Promise 3, from what leaves the devices: below the threshold nothing is revealed, and nothing twice. */
export class Secrecy implements Watcher {
  readonly #sessions: Sessions;
  /** Who attested and who revealed, by session. */
  readonly attested = new Map<string, Set<string>>();
  readonly revealed = new Map<string, Set<string>>();
  /** What each device was last told of survivors. */
  readonly #told = new Map<string, readonly string[]>();
  readonly #survivors = new Map<string, string>();
  /** Session in which a device opened a round; "run/round device". */
  readonly #opened = new Map<string, string>();
  /** "sid of": which of its two secrets was revealed. */
  readonly #kinds = new Map<string, string>();

  constructor(sessions: Sessions) {
    this.#sessions = sessions;
  }

  told(_world: World, to: string, { word: { word } }: Told): void {
    if (word.case === "survivors") this.#told.set(to, word.value.devices);
  }

  sent(_world: World, from: string, asked: Asked): void {
    const { localName } = asked.method;
    if (localName !== "attest" && localName !== "reveal") return;
    const session = this.#sessions.of(asked);
    if (!session) throw new Violation(`${from} answers in a session that nobody shared in`);
    const { sid } = session;
    if (localName === "attest") this.#attests(from, sid);
    else this.#reveals(from, session, asked.message as unknown as RevealRequest);
  }

  #reveals(from: string, { sid, size, run, round }: Session, message: RevealRequest): void {
    const quorum = thresholdFor(size);
    const signed = this.attested.get(sid)?.size ?? 0;
    if (signed < quorum) throw new Violation(`${from} reveals with ${signed} of ${quorum} attestations`);
    const key = `${run}/${round} ${from}`;
    const before = this.#opened.get(key) ?? sid;
    if (before !== sid) throw new Violation(`${from} helps to open a second sum of round ${round}`);
    this.#opened.set(key, sid);
    added(this.revealed, sid, from);
    this.#shares(from, sid, message);
  }

  #attests(from: string, sid: string): void {
    added(this.attested, sid, from);
    const devices = this.#told.get(from) ?? [];
    if (devices.length < POLICY.floor.survivors)
      throw new Violation(
        `${from} attests ${devices.length} survivors of at least ${POLICY.floor.survivors}`,
      );
    const names = devices.join(" ");
    const others = this.#survivors.get(sid) ?? names;
    if (others !== names) throw new Violation(`of one session two sets of survivors: ${others}; ${names}`);
    this.#survivors.set(sid, names);
  }

  #shares(from: string, sid: string, { shares }: RevealRequest): void {
    for (const { of, share } of shares) {
      const before = this.#kinds.get(`${sid} ${of}`) ?? share.case;
      if (before !== share.case) throw new Violation(`${from} reveals the second secret of ${of}`);
      this.#kinds.set(`${sid} ${of}`, String(share.case));
    }
  }
}

function added(sets: Map<string, Set<string>>, key: string, item: string): void {
  const set = sets.get(key) ?? new Set<string>();
  sets.set(key, set.add(item));
}
