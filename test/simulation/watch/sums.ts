import type { Change } from "@tutti/coordinator/store/store";
import { concat, hex } from "@tutti/foundation/bytes";
import { unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import { taskOf } from "@tutti/round/run";
import { termsOf } from "@tutti/round/spec";
import { sessionId } from "@tutti/round/summing";
import { thresholdFor } from "@tutti/secagg/threshold";
import type { RunHeader } from "@tutti/wire/journal";
import type { UploadPart } from "@tutti/wire/secagg";
import { type Asked, Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";
import { type Book, type Books, name } from "./books.ts";
import type { Closed } from "./closed.ts";
import { checkResult } from "./result.ts";
import type { Secrecy } from "./secrecy.ts";
import type { Sessions } from "./sessions.ts";

type Sending = { readonly sid: string; readonly bytes: number; readonly parts: Uint8Array[] };

/** Promise 1: every vector that was acknowledged is in its sum, once, and nothing else is. */
export class Sums implements Watcher {
  readonly #books: Books;
  readonly #sessions: Sessions;
  readonly #secrecy: Secrecy;
  /** What a device uploaded: "sid device". */
  readonly #vectors = new Map<string, Uint8Array>();
  readonly #sending = new Map<string, Sending>();
  /** "run/round/attempt": whose vectors were acknowledged. */
  readonly #acked = new Map<string, Set<string>>();
  readonly #headers = new Map<string, RunHeader>();
  readonly #closed: Closed[] = [];

  constructor(books: Books, sessions: Sessions, secrecy: Secrecy) {
    this.#books = books;
    this.#sessions = sessions;
    this.#secrecy = secrecy;
  }

  sent(_world: World, from: string, { method, message }: Asked): void {
    if (method.localName !== "upload") return;
    const { part } = message as unknown as UploadPart;
    if (part.case === "header") {
      const { session, packedBytes } = part.value;
      this.#sending.set(from, { sid: hex(session), bytes: packedBytes, parts: [] });
    }
    const sending = this.#sending.get(from);
    if (part.case !== "chunk" || !sending) return;
    sending.parts.push(part.value);
    const packed = concat(...sending.parts);
    if (packed.length === sending.bytes) this.#uploads(from, sending.sid, packed);
  }

  answered(_world: World, from: string, asked: Asked): void {
    if (asked.method.localName !== "upload") return;
    const session = this.#sessions.of(asked);
    if (!session) return;
    const key = `${session.run}/${session.round}/${session.attempt}`;
    this.#acked.set(key, (this.#acked.get(key) ?? new Set()).add(from));
  }

  committed(world: World, run: string, change: Change): void {
    const book = this.#books.runs.get(run)!;
    if (change.sums) this.#checkRunning(book, change.sums);
    const before = this.#headers.get(run);
    if (!change.header) return;
    this.#headers.set(run, book.header);
    if (before && book.header.history.length > before.history.length) this.#closes(world, book, before);
  }

  async check(world: World): Promise<void> {
    for (const closed of this.#closed.splice(0)) await checkResult(world, closed);
  }

  #uploads(from: string, sid: string, packed: Uint8Array): void {
    const key = `${sid} ${from}`;
    const before = this.#vectors.get(key);
    if (before && hex(before) !== hex(packed))
      throw new Violation(`${from} uploads another vector in a session that has one of it`);
    this.#vectors.set(key, packed);
  }

  /** The running sum that was just written is the sum of the vectors whose entries are written. */
  #checkRunning(book: Book, sums: NonNullable<Change["sums"]>): void {
    const round = book.round!;
    const { bits, length } = termsOf(round.spec);
    const of = book.entries.flatMap(({ device, event }) => (event.case === "uploaded" ? [device] : []));
    const uploaded = [...new Set(of)];
    for (const { cohort, words } of sums) {
      const { sum } = round.cohorts[cohort]!;
      const sid = hex(sessionId(sum));
      const expected = new Uint32Array(length);
      for (const device of uploaded.filter((one) => sum.members.has(one))) {
        const packed = this.#vectors.get(`${sid} ${device}`);
        if (!packed) throw new Violation(`${device} is in a sum of ${name(book)} that it sent nothing for`);
        addInto(expected, unpackBits(packed, bits, length));
      }
      const got = new Uint32Array(words.slice().buffer);
      if (!expected.every((word, at) => word === got[at]))
        throw new Violation(`the running sum of ${name(book)} is not the sum of ${uploaded.join(" ")}`);
    }
  }

  #closes(world: World, book: Book, before: RunHeader): void {
    const { header, run } = book;
    const record = header.history.at(-1)!;
    const at = `${run}/${before.round}/${before.attempt}`;
    const counted = new Set(header.cohort);
    if (counted.size !== record.survivors)
      throw new Violation(`round ${record.round} counts ${record.survivors} devices, not ${counted.size}`);
    const dropped = record.cohorts.some((cohort) => cohort.dropped !== "");
    for (const device of this.#acked.get(at) ?? []) {
      if (!counted.has(device) && !dropped)
        throw new Violation(`the upload of ${device} in ${at} was acknowledged and is not counted`);
    }
    this.#checkRevealed(book);
    world.meets("devices excused", excused(book));
    const { plan, planEnvelope } = book;
    const task = taskOf(run, plan, before);
    const [parent, made] = [book.releases[before.version]!, book.releases[header.version]!];
    const papers = { plan, planEnvelope, task, attempt: before.attempt };
    this.#closed.push({ ...papers, before, header, releases: book.releases, parent, made });
  }

  /** Nothing was opened of which fewer than a threshold revealed. */
  #checkRevealed({ round, plan }: Book): void {
    for (const { sum, dropped } of round!.cohorts) {
      if (dropped !== "" || sum.kind !== "secure" || !sum.session.sid) continue;
      const sid = hex(sum.session.sid);
      const quorum = thresholdFor(this.#sessions.bySid.get(sid)?.size ?? 0);
      const revealed = this.#secrecy.revealed.get(sid)?.size ?? 0;
      if (revealed < quorum) throw new Violation(`a sum was opened with ${revealed} of ${quorum} shares`);
      const { size } = sum.session.uploaded;
      if (size < plan.cohort.min)
        throw new Violation(`a sum of ${size} of at least ${plan.cohort.min} was opened`);
    }
  }
}

/** How many were invited, are here and have no place in it; no cohort has more devices than places. */
function excused({ round, plan }: Book): number {
  const { max, count, target = max * count } = plan.cohort;
  const { cohorts, invited, connected, declined } = round!;
  const sizes = cohorts.map(({ sum }) => sum.members.size);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  if (all > target || sizes.some((size) => size > max))
    throw new Violation(`a round of ${target} has cohorts of ${sizes.join(" and ")}`);
  const out = [...invited].filter((device) => !cohorts.some(({ sum }) => sum.members.has(device)));
  return out.filter((device) => connected.has(device) && !declined.has(device)).length;
}
