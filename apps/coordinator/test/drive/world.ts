import { readdirSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import { openRelease, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { firstHeader } from "@tutti/round/run";
import { sessionId } from "@tutti/round/summing";
import { RunHeaderSchema } from "@tutti/wire/journal";
import { decode, encode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { InstructionSchema, type Task } from "@tutti/wire/round";
import { random, TRUST } from "../../../../libs/round/test/cast.ts";
import { Player } from "../../../../libs/round/test/player.ts";
import { type Artifacts, openArtifacts } from "../../src/artifacts.ts";
import { completer } from "../../src/drive/complete.ts";
import { Driver } from "../../src/drive/driver.ts";
import { runStoreOf } from "../../src/drive/run-store.ts";
import { openLog } from "../../src/observe/log.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { BASE, COORDINATOR, INITIAL, OWNER, TestClock, type Trouble, Weather, wordsOf } from "./house.ts";

/** One life of a coordinator's process. */
type Life = {
  readonly driver: Driver;
  readonly clock: TestClock;
  readonly weather: Weather;
  readonly store: Store;
};

/** A run's real driver over a real database, and its devices with their real secure-sum code. */
export class World {
  readonly plan: Plan;
  readonly folder: string;
  readonly players = new Map<string, Player>();
  /** Devices that are here; who is absent says nothing. */
  readonly here: Set<string>;
  /** "round/attempt device" of every upload that was acknowledged. */
  readonly acked: string[] = [];
  /** What a device that lies makes of its words. */
  lie: (device: string, words: Uint32Array) => Uint32Array = (_, words) => words;
  /** Rows that a device has; 0 holds nothing out. */
  rows = 10;
  /** Words that a device never answers, though it is there. */
  silent: (device: string, word: string) => boolean = () => false;
  /** Awaited before a device says that it is ready: how long it trains. */
  trains: (device: string, task: Task) => Promise<void> = async () => {};
  /** The words that it has for a round. */
  words = (device: string, task: Task): Uint32Array => wordsOf(this.plan, task, device, this.rows);
  life!: Life;
  readonly errors: unknown[] = [];
  /** What the driver reported, in all its lives. */
  readonly reports: Record<string, unknown>[] = [];
  readonly #pending = new Set<string>();
  #lives = 0;
  readonly #run: string;
  readonly #envelope;
  readonly #done = new Map<string, string>();

  constructor(folder: string, plan: Plan, devices: readonly string[]) {
    this.folder = folder;
    this.plan = plan;
    this.#envelope = signPlan(plan, OWNER);
    this.#run = sha256Hex(this.#envelope.payload);
    this.here = new Set(devices);
    for (const device of devices) this.players.set(device, new Player(device));
  }

  get driver(): Driver {
    return this.life.driver;
  }

  get run(): string {
    return this.#run;
  }

  /** Starts a process on the folder as it is. */
  async boot(troubles: readonly Trouble[] = []): Promise<void> {
    const store = await openStore({ file: join(this.folder, "tutti.sqlite") });
    const artifacts = openArtifacts(join(this.folder, "artifacts"));
    if (!(await store.run(this.#run))) await this.#firstTime(store, artifacts);
    const weather = new Weather(troubles);
    const lives = this.#lives++;
    const clock = new TestClock();
    const watched = weather.over(store, ["commit", "journal"]);
    const log = openLog({ write: (line) => this.reports.push(JSON.parse(line)), clock });
    const complete = completer({
      log,
      artifacts: weather.over(artifacts, ["read", "putBytes"]),
      ...COORDINATOR,
      clock,
    });
    const stored = (await store.run(this.#run))!;
    const driver = new Driver({
      run: this.#run,
      plan: this.plan,
      planEnvelope: this.#envelope,
      header: firstHeader({ version: 0, manifest: "00".repeat(32), adapter: "00".repeat(32) }),
      parent: this.#envelope,
      store: runStoreOf(watched, stored.run),
      // Each life begins at a later hour; a round that goes on counts certificates as of its own.
      trust: () => ({ ...TRUST, nowS: TRUST.nowS + lives * 3600 }),
      clock,
      random,
      complete: weather.over({ complete }, ["complete"]).complete,
      present: () => [...this.here],
      changed: () => {},
      log,
    });
    this.life = { driver, clock, weather, store };
    this.#done.clear();
    this.#pending.clear();
    await Promise.race([driver.start(), weather.died]);
  }

  /** The process is gone: nothing it still does reaches the disk, and nobody hears of it. */
  async kill(): Promise<void> {
    this.life.weather.dead = true;
    await this.life.store.close();
  }

  async close(): Promise<void> {
    await this.driver.shutdown();
    await this.life.store.close();
  }

  /** Devices answer and time passes until `done`, or until the process dies; false then. */
  async live(done: () => boolean = () => this.driver.round === null): Promise<boolean> {
    const { weather, clock } = this.life;
    for (let idle = 0; idle < 500; idle++) {
      if (weather.dead) return false;
      if (done()) return true;
      if (this.errors.length > 0) throw this.errors[0];
      if (this.turn()) idle = 0;
      await new Promise((resolve) => setImmediate(resolve));
      if (weather.busy > 0) idle = 0;
      else if (idle > 5 && idle % 5 === 0) clock.next();
    }
    throw new Error(
      `stuck: ${this.driver.round?.phase} ${this.driver.header.state} ${this.driver.header.reason}`,
    );
  }

  /** Every device that has a new word answers it, all at once; whether anyone began to. */
  turn(): boolean {
    const free = [...this.here].filter((device) => !this.#pending.has(device) && this.#isNews(device));
    for (const device of free) {
      this.#pending.add(device);
      this.#answer(device, this.life)
        .catch((error: unknown) => this.errors.push(error))
        .finally(() => this.#pending.delete(device));
    }
    return free.length > 0;
  }

  #isNews(device: string): boolean {
    const word = this.driver.wordTo(device);
    const silent = ["published", "runOver", "excused"];
    if (word === null || silent.includes(word.word.case ?? "")) return false;
    if (this.silent(device, word.word.case ?? "")) return false;
    return this.#done.get(device) !== String(encode(InstructionSchema, word));
  }

  async #answer(device: string, { driver, weather }: Life): Promise<void> {
    const word = driver.wordTo(device)!;
    const player = this.players.get(device)!;
    const { task, attempt } = driver.round!.spec;
    const about = `${task.round}/${attempt} ${device}`;
    if (word.word.case === "invite") await this.trains(device, task as Task);
    // What it says is about the round that it trained for, and refused in another.
    if (driver.wordTo(device) !== word) return;
    player.words = this.lie(device, this.words(device, task as Task));
    weather.busy++;
    const { event, vector, session } = await player.answer(word).finally(() => weather.busy--);
    if (vector && this.acked.includes(about)) throw new Error(`${about}: its acknowledged upload was lost`);
    const now = vector && (session ?? sessionId(driver.round!.cohorts[0]!.sum));
    try {
      await driver.submit(device, event, vector && now ? { vector, session: now } : undefined);
      this.#done.set(device, String(encode(InstructionSchema, word)));
      if (vector) this.acked.push(about);
    } catch {
      // A device tries again for as long as it hears the same word.
    }
  }

  /**
   * Everything that a run leaves behind; equal for two runs that went the same way. Transcripts hold session
   * keys, so they differ, and with them the digests that name them; within one run there is one per round,
   * whatever happens, or the count of artifacts shows it.
   */
  async traces(): Promise<unknown> {
    const { history, ...header } = this.driver.header;
    const releases = await this.life.store.releases(this.#run);
    const journal = await this.life.store.journal(this.#run);
    return {
      header: { ...header, manifest: header.version === 0 && header.manifest },
      history: history.map((record) => ({ ...record, release: "", transcript: record.transcript.length })),
      releases: releases.map(({ envelope }) => {
        const { release } = openRelease(decode(SignedEnvelopeSchema, envelope, 1 << 20), TRUST);
        return { ...release, transcript: release.transcript?.length };
      }),
      journal: journal.entries.length,
      artifacts: readdirSync(join(this.folder, "artifacts")).filter((name) => !name.includes(".")).length,
    };
  }

  async #firstTime(store: Store, artifacts: Artifacts): Promise<void> {
    await artifacts.putBytes(BASE);
    await artifacts.putBytes(INITIAL);
    const { initial, base, adapter } = this.plan;
    const envelope = signRelease(
      {
        run: this.#run,
        version: 0,
        round: 0,
        base: { sha256: base.sha256 },
        adapter: initial,
        parent: null,
        cohorts: [],
        secureAggregation: true,
        privacy: null,
        transcript: null,
        method: adapter.method,
        rank: adapter.rank,
        alpha: adapter.alpha,
        createdAt: "2026-01-31T12:00:00Z",
      },
      COORDINATOR,
    );
    const digest = sha256Hex(envelope.payload);
    const header = encode(
      RunHeaderSchema,
      firstHeader({ version: 0, manifest: digest, adapter: initial.sha256 }),
    );
    const plan = encode(SignedEnvelopeSchema, this.#envelope);
    await store.addRun({ run: this.#run, name: this.plan.name, plan, header, state: "preparing" });
    const release = { version: 0, digest, envelope: encode(SignedEnvelopeSchema, envelope) };
    await store.commit(this.#run, { header, state: "running", release });
  }
}
