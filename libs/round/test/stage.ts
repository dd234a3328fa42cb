import { Fault } from "@tutti/foundation/fault";
import { addInto } from "@tutti/kernels/ring";
import { unmask } from "@tutti/secagg/server/session";
import { type JournalEntry, JournalEntrySchema } from "@tutti/wire/journal";
import { create, decode, encode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { type Instruction, InstructionSchema, type Task_Kind } from "@tutti/wire/round";
import { beginRound, type Effect, type Round, step } from "../src/round.ts";
import { firstHeader, taskOf } from "../src/run.ts";
import { type RoundSpec, termsOf } from "../src/spec.ts";
import { stageOf, survivors } from "../src/summing.ts";
import { wordTo } from "../src/words.ts";
import { planOf, TRUST } from "./cast.ts";
import { type Answer, Player } from "./player.ts";

export const PAPERS = { plan: create(SignedEnvelopeSchema), parent: create(SignedEnvelopeSchema) };
const MANIFEST = { version: 0, manifest: "ee".repeat(32), adapter: "cd".repeat(32) };

export type StageOptions = {
  readonly plan?: Parameters<typeof planOf>[0];
  /** 0 trains; `plan.rounds` and above evaluate. */
  readonly round?: number;
  readonly expected?: readonly string[];
  /** Whom earlier rounds excused. */
  readonly owed?: ReadonlyMap<string, number>;
};

/** The pure machine, real devices around it, and a transcript of all that is said: names, never bytes. */
export class Stage {
  readonly lines: string[] = [];
  readonly journal: JournalEntry[] = [];
  readonly effects: Effect[] = [];
  readonly players = new Map<string, Player>();
  round: Round;
  /** A running sum for each cohort that has one. */
  readonly sums = new Map<number, Uint32Array>();
  nowMs = 0;
  /** When the coordinator's present life began. */
  lifeMs = 0;
  readonly spec: RoundSpec;
  #told = new Map<string, string>();

  constructor({ plan: change = {}, round = 0, expected = [], owed = new Map() }: StageOptions = {}) {
    const plan = planOf(change);
    const task = taskOf("aa".repeat(32), plan, { ...firstHeader(MANIFEST), round });
    this.spec = { plan, task, attempt: 0, expected: new Set(expected), owed };
    this.round = this.#begin();
    this.#write(`round ${round}, ${kindOf(task.kind)}: ${phaseOf(this.round)}${deadline(this.round)}`);
  }

  player(name: string): Player {
    const there = this.players.get(name);
    if (there) return there;
    const { bits, length } = termsOf(this.spec);
    // Any words will do: what is tested is that each is in the sum once.
    const start = (name.codePointAt(0) ?? 0) * 7919;
    const words = Uint32Array.from({ length }, (_, at) => (start + at * 104_729) % 2 ** bits);
    const player = new Player(name, words);
    this.players.set(name, player);
    return player;
  }

  note(text: string): void {
    this.#write("", `# ${text}`);
  }

  /** A device's event, or with "" the coordinator's own; false when it was refused. */
  say(device: string, answer: Answer): boolean {
    const { event, vector } = answer;
    const entry = create(JournalEntrySchema, { nowMs: this.nowMs, device, event });
    const who = device || "coordinator";
    const said =
      event.case === "declined" || event.case === "broken" ? `${event.case}: ${event.value}` : event.case;
    this.#write(`${seconds(this.nowMs)} ${who}: ${said}`);
    try {
      const [next, effects] = step(this.round, entry);
      this.#took(next, effects, { entry, vector });
      return true;
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      this.#write(`        refused (${fault.code}): ${fault.message}`);
      return false;
    }
  }

  come(...devices: string[]): void {
    for (const device of devices) {
      this.player(device);
      this.say(device, { event: { case: "connected", value: true } });
    }
  }

  go(device: string): void {
    this.say(device, { event: { case: "disconnected", value: true } });
    this.#told.delete(device);
  }

  /** Lets devices answer the word they were told; one without a word stays silent. */
  async answer(...devices: string[]): Promise<Answer[]> {
    const given: Answer[] = [];
    for (const device of devices) {
      const word = wordTo(device, this.round, PAPERS);
      if (word === null || word.word.case === "excused") continue;
      const answer = await this.player(device).answer(word);
      given.push(answer);
      this.say(device, answer);
    }
    return given;
  }

  wait(ms: number): void {
    this.nowMs += ms;
    this.say("", { event: { case: "tick", value: true } });
  }

  /** Time passes as a driver has it: each deadline on the way is told of, so much too late. */
  pass(ms: number, lateMs: () => number): void {
    const untilMs = this.nowMs + ms;
    while (Number.isFinite(this.round.deadlineMs)) {
      const atMs = this.round.deadlineMs + lateMs();
      if (atMs > untilMs) break;
      this.wait(Math.max(0, atMs - this.nowMs));
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  /** The coordinator dies and comes back: all it has is the journal, from bytes. Devices keep their keys. */
  crash(): void {
    this.#write("", `# the coordinator crashes and replays ${this.journal.length} entries`);
    this.round = this.replayed();
    this.nowMs = 1_000_000 + this.nowMs;
    this.lifeMs = this.nowMs;
    this.say("", { event: { case: "recovered", value: true } });
  }

  /** The state that the journal alone gives. */
  replayed(): Round {
    let round = this.#begin();
    for (const entry of this.journal) {
      const bytes = encode(JournalEntrySchema, entry);
      [round] = step(round, decode(JournalEntrySchema, bytes, 2 << 20));
    }
    return round;
  }

  /** Opens each sum as the driver would, against the plain sum of its survivors' own words. */
  async open(): Promise<void> {
    const { bits, length } = termsOf(this.spec);
    const drop = 32 - bits;
    const low = (words: Uint32Array) => words.map((word) => (word << drop) >>> drop);
    for (const [at, { sum, dropped }] of this.round.cohorts.entries()) {
      if (dropped) continue;
      const running = this.sums.get(at)!;
      const plain = sum.kind === "secure" ? await unmask(sum.session, running) : low(running);
      const want = new Uint32Array(length);
      for (const name of survivors(sum)) addInto(want, this.player(name).words);
      const equal = plain.every((word, i) => word === low(want)[i]);
      this.#write("", `the sum opens: ${equal ? "equal to" : "UNLIKE"} ${survivors(sum).join(" + ")}`);
    }
  }

  text(): string {
    return `${this.lines.join("\n")}\n`;
  }

  #begin(): Round {
    return beginRound(this.spec, { connected: [], nowMs: 0, trust: TRUST });
  }

  #took(
    next: Round,
    effects: Effect[],
    what: { entry: JournalEntry; vector: Uint32Array | undefined },
  ): void {
    const before = this.round;
    if (next === before) {
      this.#write("        nothing changes");
      return;
    }
    this.round = next;
    this.journal.push(what.entry);
    this.effects.push(...effects);
    for (const effect of effects) {
      if (effect.kind !== "add-vector") continue;
      const sum = this.sums.get(effect.cohort) ?? new Uint32Array(what.vector!.length);
      addInto(sum, what.vector!);
      this.sums.set(effect.cohort, sum);
    }
    if (phaseOf(before) !== phaseOf(next)) this.#write(`        → ${phaseOf(next)}${deadline(next)}`);
    for (const effect of effects)
      if (effect.kind !== "complete") this.#write(`        effect: ${told(effect)}`);
    this.#tell();
  }

  /** What devices newly hear, grouped. */
  #tell(): void {
    const groups = new Map<string, string[]>();
    for (const device of [...this.players.keys()].sort()) {
      if (!this.round.connected.has(device)) continue;
      const word = wordTo(device, this.round, PAPERS);
      const bytes = word ? String(encode(InstructionSchema, word)) : "";
      const fresh = word !== null && this.#told.get(device) !== bytes;
      this.#told.set(device, bytes);
      if (word && fresh) groups.set(about(word), [...(groups.get(about(word)) ?? []), device]);
    }
    for (const [word, devices] of groups) this.#write(`        to ${devices.join(" ")}: ${word}`);
  }

  #write(...lines: string[]): void {
    this.lines.push(...lines);
  }
}

export function phaseOf({ phase, cohorts }: Round): string {
  if (phase !== "summing") return phase;
  const stages = cohorts.map(({ sum, dropped }) => (dropped ? `dropped, ${dropped}` : stageOf(sum)));
  return `${phase}, ${stages.join(" | ")}`;
}

function deadline({ deadlineMs }: Round): string {
  return Number.isFinite(deadlineMs) ? ` (until ${seconds(deadlineMs).trim()})` : "";
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`.padStart(7);
}

function told(effect: Effect): string {
  if (effect.kind === "fail") return `fail, ${effect.reason}`;
  return effect.kind === "add-vector" ? `add the vector of ${effect.device}` : effect.kind;
}

function kindOf(kind: Task_Kind): string {
  return kind === 1 ? "train" : "evaluate";
}

/** A word by its kind and the names in it; keys, shares and signatures are chance. */
function about({ word }: Instruction): string {
  switch (word.case) {
    case "roster":
      return `roster of ${word.value.members.length}, threshold ${word.value.threshold}`;
    case "delivery":
      return `delivery from ${word.value.envelopes.map(({ from }) => from).join(" ")}`;
    case "survivors":
      return `survivors ${word.value.devices.join(" ")}`;
    case "attestations":
      return `attestations of ${word.value.signed.map(({ device }) => device).join(" ")}`;
    default:
      return word.case ?? "nothing";
  }
}
