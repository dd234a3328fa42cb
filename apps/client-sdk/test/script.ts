import { canonical, concat, equalBytes, fromHex, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import type { Plan } from "@tutti/plan/plan";
import { openRelease, type Release, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { termsOf } from "@tutti/round/spec";
import {
  advance,
  openSession,
  receive,
  type ServerSession,
  type StageMessage,
  unmask,
  waitingFor,
  wordFor,
} from "@tutti/secagg/server/session";
import { AckSchema, EnrollReplySchema, HelloReplySchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import {
  CheckInReplySchema,
  ChunkSchema,
  type Instruction,
  InstructionSchema,
  type Task,
  Task_Kind,
  TaskSchema,
} from "@tutti/wire/round";
import { TermsSchema, type UploadPart, UploadStatusReplySchema } from "@tutti/wire/secagg";
import type { Link } from "../src/link.ts";
import { type Federation, NOW_S, releaseOf, runOf } from "./fixture.ts";

const ack = create(AckSchema);

type Line = { say(word: Instruction): void; cut(): void };

/**
 * A coordinator as short as it can be: one run in one process, the real server side of the secure sum, a
 * device per line. What tests need to see is public; what they need to spoil is an option or a method.
 */
export class Script {
  readonly fed: Federation;
  readonly plan: Plan;
  readonly run: string;
  readonly artifacts = new Map<string, Uint8Array>();
  readonly declined = new Map<string, string>();
  readonly reports: { device: string; activity: string; progress: number }[] = [];
  /** The sum of the last round, unmasked. */
  sum: Uint32Array | null = null;
  uploads = 0;
  /** "round device" to the words that came up, masked or not. */
  readonly vectors = new Map<string, Uint32Array>();
  fetches: { sha256: string; offset: number }[] = [];
  task: Task;
  attempt = 0;
  /** Ends each Fetch stream after so many bytes. */
  fetchLimit = Number.POSITIVE_INFINITY;
  parent: { release: Release; envelope: SignedEnvelope };
  /** How many must be ready before a session opens. */
  quorum: number;
  /** Words that are not said, but kept. */
  holds: (device: string, word: Instruction) => boolean = () => false;
  readonly held: Instruction[] = [];
  readonly #lines = new Map<string, Line>();
  #ready = new Set<string>();
  #session: ServerSession | null = null;
  #running = new Uint32Array(0);
  /** Who is in the sum; null while none is open. */
  #members: ReadonlySet<string> | null = null;
  /** Who sent its words as they are; null while no session without masks is open. */
  #plain: Set<string> | null = null;
  #finished: () => void = () => {};

  constructor(
    fed: Federation,
    plan: Plan,
    artifacts: readonly Uint8Array[],
    hashOf: (bytes: Uint8Array) => string,
  ) {
    this.fed = fed;
    this.quorum = plan.cohort.min;
    this.plan = plan;
    this.run = runOf(plan);
    for (const bytes of artifacts) this.artifacts.set(hashOf(bytes), bytes);
    const release = releaseOf(plan, this.run);
    this.parent = { release, envelope: signRelease(release, fed.coordinator) };
    this.task = this.#taskFor(0);
  }

  digest(envelope = this.parent.envelope): string {
    return openRelease(envelope, { authority: this.fed.authority, nowS: NOW_S }).digest;
  }

  #taskFor(round: number): Task {
    const kind = round < this.plan.rounds ? Task_Kind.TRAIN : Task_Kind.EVALUATE;
    return create(TaskSchema, { run: this.run, round, kind, parent: fromHex(this.digest()) });
  }

  /** Resolves when the present round's sum is open. */
  round(): Promise<Uint32Array> {
    return new Promise((resolve) => {
      this.#finished = () => resolve(this.sum!);
      this.tellAll();
    });
  }

  /** A new release from an adapter file; it is the parent of the next round. */
  publish(adapter: Uint8Array, sha256: string, change: Partial<Release> = {}): void {
    this.artifacts.set(sha256, adapter);
    const { release } = this.parent;
    const next: Release = {
      ...release,
      version: release.version + 1,
      round: this.task.round,
      adapter: { sha256, bytes: adapter.length },
      parent: this.digest(),
      cohorts: [3],
      ...change,
    };
    this.parent = { release: next, envelope: signRelease(next, this.fed.coordinator) };
    this.attempt = 0;
    this.task = this.#taskFor(this.task.round + 1);
    this.#restart();
  }

  again(): void {
    this.attempt++;
    this.#restart();
  }

  say(word: Instruction["word"]): void {
    for (const line of this.#lines.values()) line.say(create(InstructionSchema, { word }));
  }

  cut(device: string): void {
    this.#lines.get(device)?.cut();
  }

  /** So many are enough for the present round, also where they are ready already. */
  enough(quorum: number): void {
    this.quorum = quorum;
    if (this.#members === null && this.#ready.size >= quorum) this.#open();
  }

  /** Who said so, in the present attempt. */
  get ready(): string[] {
    return [...this.#ready];
  }

  get here(): string[] {
    return [...this.#lines.keys()];
  }

  tellAll(): void {
    for (const [device, line] of this.#lines) {
      const word = this.#wordFor(device);
      if (word && this.holds(device, word)) this.held.push(word);
      else if (word) line.say(word);
    }
  }

  linkFor(device: string): Link {
    const stage = async (message: StageMessage) => {
      this.#take(device, message);
      return ack;
    };
    return {
      hello: async () => create(HelloReplySchema, { nowMs: NOW_S * 1000 }),
      enroll: async () => create(EnrollReplySchema, { device }),
      listen: (_request, signal) => this.#listen(device, signal),
      checkIn: async () => create(CheckInReplySchema),
      fetch: ({ sha256, offset }) => this.#fetch(hex(sha256), offset),
      ready: async ({ attempt }) => {
        if (attempt !== this.attempt) throw new Fault("conflict", "ready");
        this.#ready.add(device);
        if (this.#ready.size >= this.quorum) this.#open();
        return ack;
      },
      decline: async ({ reason }) => {
        this.declined.set(device, reason);
        return ack;
      },
      report: async ({ activity, progress }) => {
        this.reports.push({ device, activity, progress });
        return ack;
      },
      advertise: ({ advertisement }) => stage({ stage: "advertise", advertisement: advertisement! }),
      pick: (request) => stage({ stage: "pick", request }),
      share: (request) => {
        // Who calls is who sends, as with a real coordinator.
        const envelopes = request.envelopes.map((one) => ({ ...one, from: device }));
        return stage({ stage: "share", request: { ...request, envelopes } });
      },
      attest: (request) => stage({ stage: "attest", request }),
      reveal: (request) => stage({ stage: "reveal", request }),
      upload: (parts) => this.#upload(device, parts),
      uploadStatus: async () => create(UploadStatusReplySchema),
      close: () => {},
    };
  }

  #restart(): void {
    this.#ready = new Set();
    this.#members = null;
    this.#session = null;
    this.#plain = null;
  }

  #open(): void {
    this.#members = new Set(this.#ready);
    const terms = termsOf(this);
    const trust = { authority: this.fed.authority, nowS: NOW_S, members: new Set(this.#ready) };
    this.#running = new Uint32Array(terms.length);
    this.#plain = new Set();
    if (!terms.plain) this.#session = openSession(terms, trust);
    this.tellAll();
  }

  async #upload(device: string, parts: AsyncIterable<UploadPart>) {
    const chunks: Uint8Array[] = [];
    let session = new Uint8Array();
    for await (const { part } of parts) {
      if (part.case === "chunk") chunks.push(part.value);
      else session = new Uint8Array(part.value!.session);
    }
    this.uploads++;
    const { bits, length, plain } = termsOf(this);
    const words = unpackBits(concat(...chunks), bits, length);
    if (plain) {
      const expected = sha256(canonical("tutti/plain/v1", encode(TermsSchema, termsOf(this))));
      if (!equalBytes(session, expected)) throw new Fault("conflict", "plain session");
    }
    this.vectors.set(`${this.task.round} ${device}`, words);
    const fresh = plain ? !this.#plain!.has(device) : !this.#session!.uploaded.has(device);
    if (fresh) addInto(this.#running, words);
    if (!plain) this.#take(device, { stage: "upload" });
    else if (this.#plain!.add(device).size === this.quorum) {
      this.sum = this.#running.map((word) => word % 2 ** bits);
      this.#finished();
    }
    return ack;
  }

  #take(device: string, message: StageMessage): void {
    this.#session = receive(this.#session!, device, message);
    while (waitingFor(this.#session).length === 0 && !["complete", "failed"].includes(this.#session.phase)) {
      this.#session = advance(this.#session);
    }
    if (this.#session.phase === "complete") {
      const session = this.#session;
      void unmask(session, this.#running).then((sum) => {
        this.sum = sum;
        this.#finished();
      });
    }
    this.tellAll();
  }

  /** To the present round, signed by everybody who must. */
  invitation(): Instruction {
    const value = {
      plan: signPlan(this.plan, this.fed.owner),
      task: this.task,
      parent: this.parent.envelope,
      attempt: this.attempt,
    };
    return create(InstructionSchema, { word: { case: "invite", value } });
  }

  #wordFor(device: string): Instruction | null {
    if (this.#members?.has(device) === false) {
      const { run, round } = this.task;
      const value = { run, round, attempt: this.attempt };
      return create(InstructionSchema, { word: { case: "excused", value } });
    }
    if (this.#session) {
      const word = wordFor(this.#session, device);
      if (word === null) return null;
      const named =
        word.kind === "open"
          ? { case: "openSession" as const, value: { terms: word.message } }
          : { case: word.kind, value: word.message };
      return create(InstructionSchema, { word: named } as Parameters<
        typeof create<typeof InstructionSchema>
      >[1]);
    }
    if (this.#plain)
      return this.#plain.has(device)
        ? null
        : create(InstructionSchema, { word: { case: "openSession", value: { terms: termsOf(this) } } });
    return this.#ready.has(device) ? null : this.invitation();
  }

  async *#listen(device: string, signal: AbortSignal | undefined): AsyncGenerator<Instruction> {
    const queue: Instruction[] = [];
    let [open, wake] = [true, () => {}];
    const cut = () => {
      open = false;
      wake();
    };
    const say = (word: Instruction) => {
      queue.push(word);
      wake();
    };
    this.#lines.set(device, { say, cut });
    signal?.addEventListener("abort", cut, { once: true });
    const first = this.#wordFor(device);
    if (first) say(first);
    while (open) {
      const word = queue.shift();
      if (word) yield word;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    if (this.#lines.get(device)?.cut === cut) this.#lines.delete(device);
    if (!signal?.aborted) throw new Fault("unavailable", "the line was cut");
  }

  async *#fetch(sha256: string, offset: number) {
    this.fetches.push({ sha256, offset });
    const bytes = this.artifacts.get(sha256);
    if (!bytes) throw new Fault("not-found", sha256);
    let left = this.fetchLimit;
    for (let at = offset; at < bytes.length && left > 0; at += 100, left -= 100) {
      yield create(ChunkSchema, { data: bytes.slice(at, at + 100), totalBytes: bytes.length });
    }
  }
}
