import { hex } from "@tutti/foundation/bytes";
import { plainSessionId } from "@tutti/round/spec";
import type { Terms, UploadPart } from "@tutti/wire/secagg";
import type { Asked, Told, Watcher } from "../witness.ts";
import type { World } from "../world.ts";
import type { Books } from "./books.ts";

/** One secure sum, as devices know it: its round and attempt, and how many were in its roster. */
export type Session = {
  readonly sid: string;
  readonly run: string;
  readonly round: number;
  readonly attempt: number;
  readonly size: number;
};

/** Which session, round and attempt a message is of, from what devices say and hear. */
export class Sessions implements Watcher {
  readonly bySid = new Map<string, Session>();
  readonly #books: Books;
  readonly #terms = new Map<string, Terms>();
  readonly #roster = new Map<string, number>();

  constructor(books: Books) {
    this.#books = books;
  }

  told(_world: World, to: string, { word: { word } }: Told): void {
    if (word.case === "roster") this.#roster.set(to, word.value.members.length);
    const terms = word.case === "openSession" ? word.value.terms : undefined;
    if (terms?.plain) this.#know(hex(plainSessionId(terms)), terms, 0);
  }

  sent(_world: World, from: string, { method, message }: Asked): void {
    if (method.localName === "advertise") {
      const { terms } = message as unknown as { terms: Terms };
      this.#terms.set(from, terms);
    }
    if (method.localName !== "share") return;
    const { session } = message as unknown as { session: Uint8Array };
    const sid = hex(session);
    const rounds = [...this.#books.runs.values()].map(({ round }) => round);
    for (const { sum } of rounds.flatMap((round) => round?.cohorts ?? [])) {
      if (sum.kind !== "secure" || !sum.session.sid || hex(sum.session.sid) !== sid) continue;
      this.#know(sid, sum.session.terms, sum.session.group?.parties.size ?? 0);
      return;
    }
    // Its run is in another round by now.
    const terms = this.#terms.get(from);
    if (terms) this.#know(sid, terms, this.#roster.get(from) ?? 0);
  }

  /** Of a message that names its session. */
  of({ method, message }: Asked): Session | undefined {
    if (method.localName === "upload") {
      const { part } = message as unknown as UploadPart;
      return part.case === "header" ? this.bySid.get(hex(part.value.session)) : undefined;
    }
    const { session } = message as unknown as { session?: Uint8Array };
    return session && this.bySid.get(hex(session));
  }

  #know(sid: string, { run, round, attempt }: Terms, size: number): void {
    if (!this.bySid.has(sid)) this.bySid.set(sid, { sid, run, round, attempt, size });
  }
}
