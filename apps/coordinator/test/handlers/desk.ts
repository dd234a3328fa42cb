import { join } from "node:path";
import { sha256 } from "@tutti/foundation/hash";
import { packBits } from "@tutti/kernels/pack";
import type { Plan } from "@tutti/plan/plan";
import { signPlan } from "@tutti/release/plan";
import type { Round } from "@tutti/round/round";
import { AckSchema, type DeviceState, DeviceStateSchema } from "@tutti/wire/device";
import type { JournalEntry } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import {
  DeclineRequestSchema,
  type Instruction,
  ListenRequestSchema,
  ReadyRequestSchema,
} from "@tutti/wire/round";
import type { Call } from "@tutti/wire/rpc";
import { AdvertiseRequestSchema, type UploadPart, UploadPartSchema } from "@tutti/wire/secagg";
import { authority, random, TRUST } from "../../../../libs/round/test/cast.ts";
import { type Answer, Player } from "../../../../libs/round/test/player.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { Coordinator } from "../../src/drive/coordinator.ts";
import type { Federation } from "../../src/folder/federation.ts";
import { adminHandlers } from "../../src/handlers/admin.ts";
import { federationHandlers } from "../../src/handlers/federation.ts";
import { openLog } from "../../src/observe/log.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import {
  BASE,
  COORDINATOR,
  INITIAL,
  OWNER,
  TestClock,
  type Trouble,
  Weather,
  wordsOf,
} from "../drive/house.ts";

export function callOf(name: string, role: string): Call & { readonly stop: AbortController } {
  const stop = new AbortController();
  return { caller: { name, role, labels: {} }, signal: stop.signal, stop };
}

export const STRANGER: Call = { caller: null, signal: new AbortController().signal };

/** What a device that comes brings with it. */
export type Saying = {
  readonly labels?: Record<string, string>;
  readonly state?: Partial<Omit<DeviceState, "$typeName">>;
};

type Listening = { readonly words: Instruction[]; ended: boolean; readonly call: ReturnType<typeof callOf> };

/** A coordinator's handlers in this process, and devices that talk to them as over a wire. */
export class Desk {
  readonly coordinator: Coordinator;
  readonly devices;
  readonly owner;
  readonly clock = new TestClock();
  readonly logged: Record<string, unknown>[] = [];
  readonly store: Store;
  readonly weather: Weather;
  readonly #disk = new Weather();
  /** Devices and what they hold; a desk on the same folder may go on with them. */
  players = new Map<string, Player>();

  /** Troubles strike the store's operations of these names. */
  static async open(
    folder: string,
    troubles: readonly Trouble[] = [],
    watched: readonly (keyof Store & string)[] = ["commit", "addRun"],
  ): Promise<Desk> {
    const store = await openStore({ file: join(folder, "tutti.sqlite") });
    const artifacts = openArtifacts(join(folder, "artifacts"));
    await artifacts.putBytes(BASE);
    await artifacts.putBytes(INITIAL);
    const weather = new Weather(troubles);
    const desk = new Desk(store, artifacts, { weather, watched });
    await desk.coordinator.start();
    return desk;
  }

  private constructor(
    store: Store,
    artifacts: ReturnType<typeof openArtifacts>,
    { weather, watched }: { weather: Weather; watched: readonly (keyof Store & string)[] },
  ) {
    this.store = store;
    this.weather = weather;
    const config = { identity: { renewalGraceDays: 30 } };
    const federation = { authority: authority.publicKey, coordinator: COORDINATOR, owners: [], config };
    this.coordinator = new Coordinator({
      store: weather.over(store, watched),
      artifacts: this.#disk.over(artifacts, ["read", "putBytes"]),
      federation: federation as unknown as Federation,
      clock: this.clock,
      random,
      verify: TRUST.verify!,
      log: openLog({ write: (line) => this.logged.push(JSON.parse(line)), clock: this.clock }),
    });
    const auth = {
      openSession: () => ({ session: new Uint8Array(16), nowMs: 0 }),
      authenticate: async () => null,
    };
    this.devices = federationHandlers(this.coordinator, auth);
    this.owner = adminHandlers(this.coordinator);
  }

  /** The run in progress, else the newest: most tests have one. */
  get driver() {
    const all = this.coordinator.drivers();
    return all.find(({ header }) => header.state === "running") ?? all.at(-1);
  }

  get round() {
    return this.driver?.round ?? null;
  }

  async startRun(plan: Plan): Promise<string> {
    return await this.coordinator.startRun(signPlan(plan, OWNER));
  }

  /** What must be the same before and after a refusal. */
  async state(): Promise<unknown> {
    const driver = this.driver;
    const entries = driver ? (await this.store.journal(driver.options.run)).entries.length : 0;
    return { round: driver?.round, header: driver?.header, entries };
  }

  listen(device: string, { labels = {}, state }: Saying = {}): Listening {
    const call = callOf(device, "device");
    const listening: Listening = {
      words: [],
      ended: false,
      call: { ...call, caller: { ...call.caller!, labels } },
    };
    const request = create(ListenRequestSchema, state ? { state: create(DeviceStateSchema, state) } : {});
    void (async () => {
      for await (const word of this.devices.listen(request, listening.call)) listening.words.push(word);
      listening.ended = true;
    })();
    return listening;
  }

  /** Devices listen, and time passes until they are invited. */
  async gather(...names: string[]): Promise<Listening[]> {
    const lines = names.map((name) => this.listen(name));
    await this.settle();
    while (this.round?.phase === "gathering" && this.clock.next()) await this.settle();
    return lines;
  }

  /** The run that a device serves, else the only one. */
  driverOf(device: string) {
    const run = this.coordinator.dispatch.schedule.serves(device);
    return run === null ? this.driver! : this.coordinator.driver(run);
  }

  /** The answer of a device to its present word, not sent yet. */
  async answerOf(device: string): Promise<Answer> {
    const driver = this.driverOf(device);
    // A player keeps its keys of one run's session.
    const key = `${device} ${driver.options.run}`;
    const player = this.players.get(key) ?? new Player(device);
    this.players.set(key, player);
    player.words = wordsOf(driver.options.plan, driver.round!.spec.task, device);
    return await player.answer(driver.wordTo(device)!);
  }

  async send(device: string, answer: Answer): Promise<void> {
    await this.sendEvent(device, answer.event, answer);
  }

  /** Every device in turn answers its word. */
  async answer(...names: string[]): Promise<void> {
    for (const name of names) {
      const { word } = this.driverOf(name)?.wordTo(name) ?? {};
      const news = word?.case === "published" || word?.case === "runOver";
      if (word && !news) await this.send(name, await this.answerOf(name));
    }
  }

  async sendEvent(device: string, event: JournalEntry["event"], upload?: Answer): Promise<unknown> {
    const call = callOf(device, "device");
    const round = this.driverOf(device).round!;
    const said = {
      run: round.spec.task.run,
      round: round.spec.task.round,
      attempt: round.spec.attempt,
    };
    const session = () => sessionOf(round);
    switch (event.case) {
      case "ready":
        return this.devices.ready(create(ReadyRequestSchema, said), call);
      case "declined":
        return this.devices.decline(create(DeclineRequestSchema, { ...said, reason: event.value }), call);
      case "advertised": {
        const { terms } = session();
        return this.devices.advertise(
          create(AdvertiseRequestSchema, { terms, advertisement: event.value }),
          call,
        );
      }
      case "shared":
        return this.devices.share(event.value, call);
      case "uploaded":
        return this.devices.upload(parts(uploadOf(upload!, session().terms.bits)), call);
      case "attested":
        return this.devices.attest(event.value, call);
      case "revealed":
        return this.devices.reveal(event.value, call);
      default:
        return create(AckSchema);
    }
  }

  async settle(): Promise<void> {
    // No time passes while a disk is at work: on this clock it would be minutes.
    for (let turn = 0; turn < 20; turn = this.#disk.busy > 0 ? 0 : turn + 1)
      await new Promise((resolve) => setImmediate(resolve));
  }

  async close(): Promise<void> {
    await this.coordinator.close();
    await this.store.close();
  }
}

function sessionOf({ cohorts }: Round) {
  const sum = cohorts[0]?.sum;
  if (sum?.kind !== "secure") throw new Error("no session");
  return sum.session;
}

export type UploadShape = { session: Uint8Array; bytes: Uint8Array; sha256: Uint8Array; packedBytes: number };

export function uploadOf({ vector, session }: Answer, bits: number): UploadShape {
  const bytes = packBits(vector!, bits);
  return { session: session!, bytes, sha256: sha256(bytes), packedBytes: bytes.length };
}

/** The parts of an upload: its header, then two chunks. */
export function parts({ session, bytes, sha256, packedBytes }: UploadShape): AsyncIterable<UploadPart> {
  const middle = bytes.length >> 1;
  return stream([
    { case: "header", value: { session, packedBytes, sha256 } as never },
    { case: "chunk", value: bytes.subarray(0, middle) },
    { case: "chunk", value: bytes.subarray(middle) },
  ]);
}

export async function* stream(all: readonly UploadPart["part"][]): AsyncGenerator<UploadPart> {
  for (const part of all) yield create(UploadPartSchema, { part });
}
