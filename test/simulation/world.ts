import type { Device } from "@tutti/client-sdk/device";
import type { DeviceEvent } from "@tutti/client-sdk/events";
import { asFault, type Fault } from "@tutti/foundation/fault";
import type { SeededRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import { Admin } from "@tutti/wire/admin";
import { encode } from "@tutti/wire/message";
import { Federation, type Instruction } from "@tutti/wire/round";
import type { DescMethod } from "@tutti/wire/rpc";
import { Register } from "@tutti/wire/standing";
import type { Shelf } from "./artifacts.ts";
import { identityOf } from "./cast.ts";
import { bootCoordinator, type Process } from "./coordinator.ts";
import { bootDevice, type Mood } from "./device.ts";
import { DeviceDisk } from "./device-disk.ts";
import type { DiskWeather, Fate } from "./disk.ts";
import { Life, WALL_START_MS, type Wall } from "./life.ts";
import { Network } from "./network.ts";
import { type Owner, ownerOn } from "./owner.ts";
import { requestLine, wordLine } from "./said.ts";
import type { Scenario } from "./scenario.ts";
import { Database } from "./store.ts";
import { Timeline } from "./timeline.ts";
import type { Transcript } from "./transcript.ts";
import { type Ears, type Message, type Server, type WireOptions, wireTo } from "./wire.ts";
import type { Witness } from "./witness.ts";

/** A device, through all its lives. */
export type Site = {
  readonly name: string;
  readonly deviceDisk: DeviceDisk;
  readonly wall: Wall;
  readonly mood: Mood;
  life: Life | null;
  device: Device | null;
  /** It does not come back: revoked, or its disk is gone. */
  gone: boolean;
};

/** How likely a disk's operation fails, and how slow it is. */
export type StorageWeather = { failed: number; unknown: number; slowMs: number };
export const SOUND: StorageWeather = { failed: 0, unknown: 0, slowMs: 0 };

/** One operation of somebody's storage that goes wrong: so many from now, of all or of one kind. */
export type Snag = {
  readonly who: string;
  readonly what?: string;
  readonly fate: "failed" | "unknown";
  left: number;
};

/** Kinds of faults that strike in every seed while a run is in progress, at least. */
export const FEWEST_KINDS = 5;
const PAUSE_MS = 500;
const RESTART_MS = 1_500;
/** Beyond a lease (apps/coordinator/src/lead/sight.ts). */
const TAKEOVER_MS = 3_000;
const ENDS_MS = 2_000;

/** A whole federation in one thread: real coordinator, real devices, everything around them simulated. */
export class World {
  readonly scenario: Scenario;
  readonly timeline = new Timeline();
  readonly chance: SeededRandom;
  readonly transcript: Transcript;
  readonly witness: Witness;
  readonly network: Network;
  readonly database: Database;
  readonly shelf: Shelf = new Map();
  readonly sites: ReadonlyMap<string, Site>;
  readonly owner: Owner;
  readonly wall: Wall = { offsetMs: 0 };
  readonly strikes = new Map<string, number>();
  /** How often what seeds should lead to came about. */
  readonly met = new Map<string, number>();
  storage: StorageWeather = SOUND;
  deviceStorage: StorageWeather = SOUND;
  readonly snags = new Set<Snag>();
  /** The coordinator that serves; null while none does. */
  process: Process | null = null;
  /** Also while it starts. */
  life: Life | null = null;
  /** Told of each request that the coordinator acknowledged. */
  onAnswer: ((from: string, method: string) => void)[] = [];
  readonly ended: { run: string; state: string; reason: string }[] = [];
  /** All that the owner conducts. */
  isOver = false;

  constructor(scenario: Scenario, { transcript, witness }: { transcript: Transcript; witness: Witness }) {
    this.scenario = scenario;
    this.transcript = transcript;
    this.witness = witness;
    this.chance = scenario.chance.fork("world");
    this.network = new Network(this.timeline, scenario.chance.fork("network"), (kind) => this.struck(kind));
    this.database = new Database(() => WALL_START_MS + this.timeline.nowMs + this.wall.offsetMs);
    this.sites = new Map(scenario.devices.map((name) => [name, newSite(name)]));
    this.owner = this.#newOwner();
    this.database.onCommit = (run, change) => witness.committed(this, run, change);
  }

  say(who: string, what: string): void {
    this.transcript.add(this.timeline.nowMs, who, what);
  }

  /** A fault happened: said, and counted where a run had to stand it. */
  struck(kind: string, detail = ""): void {
    if (!this.isOver) this.strikes.set(kind, (this.strikes.get(kind) ?? 0) + 1);
    this.say("!", detail ? `${kind}: ${detail}` : kind);
  }

  meets(situation: string, times = 1): void {
    if (times > 0) this.met.set(situation, (this.met.get(situation) ?? 0) + times);
  }

  /** The coordinator's machine starts a process whenever none runs. */
  boot(afterMs = 0): void {
    this.timeline.after(afterMs, () => {
      if (this.life === null) void this.#boot();
    });
  }

  /**
   * The coordinator stands still for so long that another takes its place; woken, it finds out by its first
   * write, and its process ends.
   */
  takeOver(wokenMs: number): void {
    const { life, process } = this;
    if (life === null || process === null) return;
    life.freeze();
    this.timeline.after(TAKEOVER_MS, () => {
      if (this.life !== life) return;
      this.network.gone(life);
      this.life = null;
      this.process = null;
      this.witness.died(this);
      void this.#boot();
    });
    this.timeline.after(TAKEOVER_MS + wokenMs, () => {
      life.thaw();
      this.timeline.after(ENDS_MS, () => life.die());
    });
  }

  async #boot(): Promise<void> {
    const life = this.#newLife("coordinator", this.wall);
    this.life = life;
    life.whenDead(() => this.#died(life));
    this.say("coordinator", "starts");
    const report = (line: string) => {
      const { at: _, ...told } = JSON.parse(line) as Record<string, unknown>;
      this.say("coordinator", `logs ${JSON.stringify({ ...told, stack: undefined })}`);
      if (told.doing === "taking up a run") this.meets("runs not taken up at once");
      this.witness.reported(this, line);
    };
    const isShort = (name: string) => this.scenario.short.has(name);
    const weather = this.#weather("coordinator", () => this.storage);
    const machine = { database: this.database, shelf: this.shelf, weather, report, isShort };
    try {
      const started = await bootCoordinator(life, { ...machine, holdMs: this.scenario.holdMs });
      if (life.dead) return;
      this.process = started;
      this.say("coordinator", "serves");
      this.witness.served(this);
    } catch (error) {
      if (life.dead) return;
      this.say("coordinator", `cannot start: ${asFault(error).message}`);
      life.die();
    }
  }

  #died(life: Life): void {
    this.say("coordinator", "is dead");
    this.network.gone(life);
    if (this.life !== life) return;
    this.life = null;
    this.process = null;
    this.witness.died(this);
    this.boot(RESTART_MS * (0.2 + this.chance.uniform()));
  }

  /** A device's process starts, unless one runs or none will. */
  bootDevice(name: string, afterMs = 0): void {
    const site = this.site(name);
    this.timeline.after(afterMs, () => {
      if (site.life === null && !site.gone) void this.#bootDevice(site);
    });
  }

  async #bootDevice(site: Site): Promise<void> {
    const { name, deviceDisk, wall, mood } = site;
    const life = this.#newLife(name, wall);
    site.life = life;
    life.whenDead(() => this.#deviceDied(site, life));
    this.say(name, "starts");
    const link = { ...wireTo(Federation, this.#wire(life, name)), close: () => {} };
    const weather = this.#weather(name, () => this.deviceStorage);
    const identity = identityOf(name, { short: this.scenario.short.has(name) });
    const onEvent = (event: DeviceEvent) => this.#heardOf(site, event);
    try {
      const device = await bootDevice(life, { identity, deviceDisk, weather, mood, link, onEvent });
      if (life.dead) return;
      site.device = device;
      await device.participate({ once: false });
    } catch (error) {
      if (life.dead) return;
      const fault = asFault(error);
      this.say(name, `stops: ${fault.message}`);
      this.witness.stopped(this, name, fault);
      // Refused at the door: revoked, or its certificate is over.
      if (fault.code === "refused") site.gone = true;
    }
    life.die();
  }

  #deviceDied(site: Site, life: Life): void {
    if (site.life !== life) return;
    site.life = null;
    site.device = null;
    this.say(site.name, "is dead");
    this.network.gone(life);
  }

  site(name: string): Site {
    return this.sites.get(name)!;
  }

  #heardOf({ name }: Site, event: DeviceEvent): void {
    if (event.kind === "activity") return;
    if (event.kind === "refused") this.say(name, `refused: ${event.because.message}`);
    if (event.kind === "released") this.say(name, `answers with release ${event.version}`);
    if (event.kind === "state" && event.state === "reconnecting") this.say(name, "lost the coordinator");
    this.witness.event(this, name, event);
  }

  /** The owner conducts every run: those that have a time at once, the others one after another. */
  async conduct(): Promise<void> {
    const { plans, startsMs } = this.scenario;
    let before: Promise<unknown> = Promise.resolve();
    const all = plans.map((plan, at) => {
      const startMs = startsMs[at] ?? null;
      const mine = startMs === null ? before : new Promise<void>((go) => this.timeline.after(startMs, go));
      before = mine.then(() => this.#conduct(plan));
      return before;
    });
    await Promise.all(all);
    await this.#conductMore();
    this.isOver = true;
  }

  /** After a quick run that is over before much went wrong come others, until the calm. */
  async #conductMore(): Promise<void> {
    const { plans, calmMs } = this.scenario;
    for (let more = 1; this.strikes.size < FEWEST_KINDS && this.timeline.nowMs < calmMs; more++) {
      await new Promise<void>((go) => this.timeline.after(PAUSE_MS, go));
      const plan = plans[more % plans.length]!;
      await this.#conduct({ ...plan, name: `${plan.name}-${more}` });
    }
  }

  async #conduct(plan: Plan): Promise<void> {
    let left = this.scenario.resumes;
    const end = await this.owner.conduct(plan, {
      // What its owner stopped by mistake goes on; what failed, as long as the owner has patience.
      resumes: (state) => state === "stopped" || left-- > 0,
      resumed: () => this.meets("runs resumed"),
    });
    this.say("owner", `run ${end.run.slice(0, 8)} ${end.state} ${end.reason}`);
    this.ended.push(end);
  }

  /** The owner revokes a device, until that is done. */
  revoke(device: string): void {
    if (this.owner.revoking.has(device)) return;
    this.owner.revoke(device).then(
      () => this.say("owner", `revoked ${device}`),
      (error) => {
        this.witness.failure ??= error;
      },
    );
  }

  /** The owner stops a run that the coordinator has in progress, and will let it go on. */
  stopOne(): void {
    const running = this.process?.coordinator.drivers().find(({ header }) => header.state === "running");
    if (!running) return;
    const { run } = running.options;
    this.struck("stopped by its owner", run.slice(0, 8));
    this.owner.stop(run).catch((error) => {
      this.witness.failure ??= error;
    });
  }

  #newOwner(): Owner {
    const life = this.#newLife("owner", { offsetMs: 0 });
    const wire = this.#wire(life, "owner");
    return ownerOn(life, { admin: wireTo(Admin, wire), register: wireTo(Register, wire) });
  }

  #newLife(name: string, wall: Wall): Life {
    const chance = this.scenario.chance.fork(`${name}/${this.timeline.nowMs}`);
    return new Life(name, { timeline: this.timeline, chance, wall });
  }

  #wire(life: Life, name: string): WireOptions {
    const server = (): Server | null => this.process;
    return { life, name, network: this.network, server, ears: this.#ears };
  }

  readonly #ears: Ears = {
    sent: (from, method, message) => {
      const bytes = encode(method.input, message);
      this.say(from, `→ ${requestLine(method, message, bytes)}`);
      this.witness.sent(this, from, { method, message });
    },
    answered: (from, method, { request, life }) => {
      this.say("coordinator", `✓ ${method.localName} of ${from}`);
      this.witness.answered(this, from, { method, message: request, life });
      for (const act of this.onAnswer) act(from, method.localName);
    },
    told: (to, method, { word, life }) => {
      if (method.localName !== "listen") return;
      this.say("coordinator", `→ ${to}: ${wordLine(word as Instruction)}`);
      this.witness.told(this, to, { word: word as Instruction, life });
    },
    refused: (from, method, fault) => this.#refused(from, method, fault),
    listening: (device, here, life) => {
      if (life === this.life) this.witness.listening(this, device, here);
    },
  };

  #refused(from: string, method: DescMethod, fault: Fault): void {
    this.say("coordinator", `✗ ${method.localName} of ${from}: ${fault.message}`);
    this.witness.refused(this, from, { method, fault });
  }

  #snagged(name: string, what: string): Fate | undefined {
    for (const snag of this.snags) {
      if (snag.who !== name || (snag.what ?? what) !== what || --snag.left > 0) continue;
      this.snags.delete(snag);
      return snag.fate;
    }
    return undefined;
  }

  #weather(name: string, now: () => StorageWeather): DiskWeather {
    const chance = this.scenario.chance.fork(`disk of ${name}/${this.timeline.nowMs}`);
    return {
      latencyMs: () => 0.2 + chance.uniform() * (2 + now().slowMs),
      fate: (what) => {
        const fate = this.#snagged(name, what) ?? drawn(chance, now());
        if (fate !== "fine") {
          this.struck(`storage ${fate}`, `${name}, ${what}`);
          if (name === "coordinator") this.witness.storageFailed(this);
        }
        return fate;
      },
    };
  }
}

export type { Message };

function drawn(chance: SeededRandom, { failed, unknown }: StorageWeather): Fate {
  if (failed + unknown === 0) return "fine";
  const at = chance.uniform();
  return at < failed ? "failed" : at < failed + unknown ? "unknown" : "fine";
}

function newSite(name: string): Site {
  return {
    name,
    deviceDisk: new DeviceDisk(),
    wall: { offsetMs: 0 },
    mood: { stepMs: 50, declines: false },
    life: null,
    device: null,
    gone: false,
  };
}
