import type { RevokeRequest } from "@tutti/wire/admin";
import { type Asked, Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";
import { type Book, type Books, name } from "./books.ts";

/** Where nothing fails any more: an owner who asks again, 10 s apart at most, and a coordinator's start. */
const DONE_MS = 30_000;

/**
 * A device that was revoked is in no round that begins after the owner heard so, and out of those in progress
 * by then; and the owner does hear so, whatever failed on the way.
 */
export class Revoked implements Watcher {
  readonly #books: Books;
  readonly #done = new Set<string>();

  constructor(books: Books) {
    this.#books = books;
  }

  answered(world: World, _from: string, { method, message }: Asked): void {
    if (method.localName !== "revoke") return;
    const { device } = message as unknown as RevokeRequest;
    for (const book of this.#books.runs.values()) {
      world.meets("revoked from a round in progress", isIn(device, book, "revoked") ? 1 : 0);
      mustBeOut(device, book);
    }
    this.#done.add(device);
  }

  committed(_world: World, run: string): void {
    for (const device of this.#done) mustBeOut(device, this.#books.runs.get(run)!);
  }

  check({ owner, scenario, timeline }: World): void {
    for (const [device, sinceMs] of owner.revoking)
      if (timeline.nowMs > Math.max(sinceMs, scenario.calmMs) + DONE_MS)
        throw new Violation(`the revocation of ${device} does not end`);
  }
}

type Place = "connected" | "invited" | "revoked";

function isIn(device: string, { header, entries, round }: Book, place: Place): boolean {
  // One that ended stays in its book until the next one's first entry.
  const isOn = header.state === "running" && entries.length > 0;
  return isOn && round?.[place].has(device) === true;
}

function mustBeOut(device: string, book: Book): void {
  if (isIn(device, book, "revoked")) return;
  const place = (["connected", "invited"] as const).find((one) => isIn(device, book, one));
  if (!place) return;
  const { round, attempt } = book.header;
  throw new Violation(`${device} was revoked, and is ${place} in ${name(book)}, ${round}/${attempt}`);
}
