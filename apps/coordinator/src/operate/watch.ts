import { hex } from "@tutti/foundation/bytes";
import type { Clock } from "@tutti/foundation/clock";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Config } from "../folder/config.ts";
import type { Federation } from "../folder/federation.ts";
import type { Office } from "../lead/office.ts";
import { devicesOf, expiries, type Held, type Levels } from "../observe/levels.ts";
import type { Log } from "../observe/log.ts";
import type { Meters } from "../observe/meters.ts";
import { watchRounds } from "../observe/rounds.ts";
import { type Observe, observers, type Seen } from "../observe/seen.ts";
import { observed } from "../observe/storage.ts";
import type { Store } from "../store/store.ts";
import { readiness } from "./health.ts";
import { serveHttp } from "./http.ts";
import { Writes } from "./writes.ts";

/** What is watched, once it is there. */
export type Watched = {
  readonly office: Pick<Office, "role" | "coordinator">;
  readonly federation: Federation;
  readonly held: () => Held;
  /** The TLS certificate that is shown now, DER. */
  readonly tls: () => Uint8Array;
  /** Any small question; that it is answered is enough. */
  readonly askStore: () => Promise<unknown>;
  /** Any small write that changes nothing. */
  readonly askWrite: () => Promise<unknown>;
};

const JSON_TYPE = "application/json; charset=utf-8";

/** Log, metrics and probes of one coordinator, as tutti.json asks for them. */
export class Watch {
  readonly observe: Observe;
  readonly #clock: Clock;
  readonly #config: Config;
  readonly #meters: Meters | undefined;
  readonly #writes: Writes;
  #watched: Watched | undefined;
  #stopping = false;
  readonly #ends: (() => unknown)[] = [];

  private constructor(
    { clock, config }: { clock: Clock; config: Config },
    all: { meters: Meters | undefined; observers: Observe[] },
  ) {
    this.#clock = clock;
    this.#config = config;
    this.#writes = new Writes(clock);
    this.#meters = all.meters;
    this.observe = observers(all.observers);
  }

  /** Loads what is configured, and nothing else. */
  static async open(parts: { clock: Clock; config: Config; log: Log }): Promise<Watch> {
    const { config, log } = parts;
    const late: { watch?: Watch } = {};
    const levels = () => late.watch?.levels() ?? NOTHING;
    const meters = config.operations && (await import("../observe/meters.ts")).openMeters(levels);
    const traces = config.tracing && (await openTraces(config.tracing, { log, federation: config.name }));
    const more = [meters, traces].flatMap((one) => (one ? [one.observe] : []));
    late.watch = new Watch(parts, { meters, observers: [logging(log), ...more] });
    if (traces) late.watch.#ends.push(() => traces.close());
    return late.watch;
  }

  /** A store, or a shelf of artifacts, whose operations are seen; as it is where nobody looks. */
  over<T extends object>(what: string, inner: T): T {
    return this.#meters || this.#config.tracing
      ? observed(what, inner, { clock: this.#clock, observe: this.observe })
      : inner;
  }

  /** The store of a coordinator: its operations are seen, and whether its writes go through. */
  overStore(store: Store): Store {
    return this.#meters ? this.#writes.over(this.over("store", store)) : this.over("store", store);
  }

  /** Opens the port for metrics and probes where there is one; its number. Until `begin` it is not ready. */
  async listen(): Promise<number | undefined> {
    const { operations } = this.#config;
    if (!operations || !this.#meters) return undefined;
    const server = await serveHttp(operations, this.#pages(this.#meters));
    this.#ends.push(() => server.close());
    return server.port;
  }

  begin(watched: Watched): void {
    this.#watched = watched;
  }

  /** Watches the rounds of a coordinator that began to lead; returns how to end that. */
  rounds(coordinator: Coordinator): () => void {
    return watchRounds(coordinator, this.#clock, this.observe);
  }

  /** From now on it is not ready; probes go on being answered. */
  stopping(): void {
    this.#stopping = true;
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0)) await end();
  }

  levels(): Levels {
    const watched = this.#watched;
    if (!watched) return NOTHING;
    const { office, federation, held, tls } = watched;
    const { role, coordinator } = office;
    const nowS = this.#clock.wallMs() / 1000;
    const ends = Object.entries(expiries(federation, tls()));
    const drivers = coordinator?.drivers() ?? [];
    const entries = drivers.map(({ options, round }) => (round ? options.store.entries() : 0));
    return {
      devices: coordinator ? devicesOf(coordinator) : NOTHING.devices,
      runsRunning: drivers.filter(({ header }) => header.state === "running").length,
      journalEntries: entries.reduce((sum, count) => sum + count, 0),
      held: held(),
      stopping: this.#stopping,
      role: role.kind,
      epoch: role.kind === "leader" ? role.epoch : 0,
      certificates: Object.fromEntries(ends.map(([name, atS]) => [name, Math.round(atS - nowS)])),
    };
  }

  /** Which federation's this is: its name, and the authority's public key, since names may be the same. */
  #whose(): { readonly federation?: string; readonly authority?: string } {
    if (!this.#watched) return {};
    const { config, authority } = this.#watched.federation;
    return { federation: config.name, authority: hex(authority) };
  }

  #pages(meters: Meters): Parameters<typeof serveHttp>[1] {
    const json = (status: number, value: unknown) => ({
      status,
      type: JSON_TYPE,
      body: `${JSON.stringify(value)}\n`,
    });
    return {
      "/metrics": async () => ({ status: 200, type: meters.contentType, body: await meters.text() }),
      // That it answers is the answer: the event loop turns.
      "/livez": async () => json(200, { live: true }),
      "/readyz": async () => {
        const askStore = async () => await this.#watched?.askStore();
        const writes = async () => await this.#writes.trouble(async () => this.#watched?.askWrite());
        const levels = () => this.levels();
        const now = await readiness({ levels, askStore, writes, clock: this.#clock });
        return json(now.ready ? 200 : 503, { ...now, ...this.#whose() });
      },
    };
  }
}

/** Both libraries are loaded here, and only here: without a section nothing of them runs. */
async function openTraces(config: NonNullable<Config["tracing"]>, about: { log: Log; federation: string }) {
  const { openOtlp } = await import("../observe/otlp.ts");
  const { tracing } = await import("../observe/traces.ts");
  const { tracer, close } = openOtlp(config, about);
  return { observe: tracing(tracer), close };
}

const NOTHING: Levels = {
  devices: { present: 0, invited: 0, ready: 0 },
  runsRunning: 0,
  journalEntries: 0,
  held: { connections: 0, newcomers: 0, calls: 0, turned: new Map() },
  stopping: false,
  role: "none",
  epoch: 0,
  certificates: {},
};

/** Rounds and runs as they end are worth a line; calls and transactions are what metrics are for. */
function logging(log: Log): Observe {
  return (seen: Seen) => {
    if (seen.kind === "attempt") {
      const { run, round, attempt, outcome, devices, ms, reason } = seen;
      const about = { run: run.slice(0, 12), round, attempt, outcome, devices, ms: Math.round(ms) };
      log.say(outcome === "failed" ? "round.failed" : "round.over", { ...about, ...(reason && { reason }) });
    }
    if (seen.kind === "run")
      log.say("run.over", {
        run: seen.run.slice(0, 12),
        state: seen.state,
        ...(seen.reason && { reason: seen.reason }),
      });
    if (seen.kind === "phase")
      log.say("phase.over", {
        run: seen.run.slice(0, 12),
        round: seen.round,
        phase: seen.phase,
        ms: Math.round(seen.ms),
      });
  };
}
