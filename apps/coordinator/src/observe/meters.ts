import { unreachable } from "@tutti/foundation/check";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { CAUSES } from "../grpc/turned.ts";
import type { Levels } from "./levels.ts";
import type { Observe, Seen } from "./seen.ts";

/** Prometheus metrics of one coordinator. Labels have few values: no device, run or address is one. */
export type Meters = {
  readonly observe: Observe;
  /** In Prometheus' text format. */
  text(): Promise<string>;
  readonly contentType: string;
  /** Name, type and meaning of each of ours; for the table in docs/operating.md. */
  all(): { name: string; type: string; help: string }[];
};

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const PHASE_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];
const ENTRIES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
/** Requests whose acknowledgement says that something is durable. */
const ACKNOWLEDGED = new Set(["Ready", "Advertise", "Pick", "Share", "Upload", "Attest", "Reveal"]);

export function openMeters(levels: () => Levels): Meters {
  const registry = new Registry();
  const made = { ...counters(registry), ...histograms(registry) };
  gauges(registry, levels);
  const own = registry.getMetricsAsArray().map(({ name, type, help }) => ({ name, type: `${type}`, help }));
  // Memory, CPU, handles, event loop lag, garbage collection: as every Node program tells them.
  collectDefaultMetrics({ register: registry });
  return {
    observe: (seen) => count(seen, made),
    text: () => registry.metrics(),
    contentType: registry.contentType,
    all: () => own,
  };
}

function counters(registry: Registry) {
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: `tutti_${name}`, help, labelNames, registers: [registry] });
  return {
    rounds: counter("rounds_total", "Attempts of rounds that ended, by outcome.", ["outcome"]),
    runs: counter("runs_total", "Runs that ended, by their last state.", ["state"]),
    calls: counter("calls_total", "Requests answered, by method and gRPC code.", ["method", "code"]),
    refused: counter("refusals_total", "Requests answered with an error or cut, by gRPC code.", ["code"]),
    received: counter("received_bytes_total", "Bytes of messages received, by method.", ["method"]),
    commits: counter("commits_total", "Transactions that changed a run."),
    failures: counter("store_failures_total", "Operations of store or artifacts that failed.", ["operation"]),
  };
}

function histograms(registry: Registry) {
  const histogram = <L extends string>(
    name: string,
    help: string,
    { buckets = SECONDS, labelNames = [] }: { buckets?: number[]; labelNames?: readonly L[] } = {},
  ) => new Histogram({ name: `tutti_${name}`, help, labelNames, buckets, registers: [registry] });
  return {
    phases: histogram("phase_seconds", "How long phases of rounds and stages of secure sums took.", {
      buckets: PHASE_SECONDS,
      labelNames: ["phase"],
    }),
    attempts: histogram("round_seconds", "How long attempts of rounds took.", { buckets: PHASE_SECONDS }),
    acks: histogram(
      "acknowledgement_seconds",
      "From a message's last byte to its acknowledgement, which is durable (group commit).",
    ),
    committing: histogram("commit_seconds", "How long transactions that changed a run took."),
    entries: histogram("commit_entries", "Journal entries that shared a transaction.", { buckets: ENTRIES }),
  };
}

function gauges(registry: Registry, levels: () => Levels): void {
  const gauge = <L extends string>(
    name: string,
    help: string,
    { labelNames = [], read }: { labelNames?: readonly L[]; read: (set: Gauge<L>, now: Levels) => void },
  ) =>
    new Gauge({
      name: `tutti_${name}`,
      help,
      labelNames,
      registers: [registry],
      collect() {
        read(this, levels());
      },
    });
  gauge("devices", "Devices that are here, that rounds invited, and that trained and wait for the sum.", {
    labelNames: ["state"],
    read: (set, { devices }) => {
      for (const [state, count] of Object.entries(devices)) set.set({ state }, count);
    },
  });
  gauge("runs_running", "Runs in progress.", { read: (set, now) => set.set(now.runsRunning) });
  gauge("connections", "Open connections of devices and owners.", {
    read: (set, { held }) => set.set(held.connections),
  });
  gauge("newcomers", "Open connections over which nothing was signed yet.", {
    read: (set, { held }) => set.set(held.newcomers),
  });
  gauge("calls_in_progress", "Requests being answered, streams to devices not counted.", {
    read: (set, { held }) => set.set(held.calls),
  });
  gauge("journal_entries", "Entries of the rounds in progress: what a restart has to read again.", {
    read: (set, now) => set.set(now.journalEntries),
  });
  new Counter({
    name: "tutti_turned_away_total",
    help: `Connections cut and requests turned away unheard, by cause: ${causes()}.`,
    labelNames: ["cause"],
    registers: [registry],
    collect() {
      this.reset();
      for (const [cause, count] of levels().held.turned) this.inc({ cause }, count);
    },
  });
  gauge("leader", "1 where this coordinator leads, 0 where it stands by.", {
    read: (set, now) => set.set(now.role === "leader" ? 1 : 0),
  });
  gauge("epoch", "The leader's epoch; it grows at each takeover.", {
    read: (set, now) => set.set(now.epoch),
  });
  gauge("certificate_expiry_seconds", "Seconds until a certificate of the coordinator's ends.", {
    labelNames: ["certificate"],
    read: (set, { certificates }) => {
      for (const [certificate, seconds] of Object.entries(certificates)) set.set({ certificate }, seconds);
    },
  });
}

function causes(): string {
  return Object.entries(CAUSES)
    .map(([cause, says]) => `${cause} (${says})`)
    .join("; ");
}

type Made = ReturnType<typeof counters> & ReturnType<typeof histograms>;

function count(seen: Seen, made: Made): void {
  switch (seen.kind) {
    case "phase":
      made.phases.observe({ phase: seen.phase || "between" }, seen.ms / 1000);
      break;
    case "attempt":
      made.rounds.inc({ outcome: seen.outcome });
      made.attempts.observe(seen.ms / 1000);
      break;
    case "run":
      made.runs.inc({ state: seen.state });
      break;
    case "call":
      countCall(seen, made);
      break;
    case "stored":
      countStored(seen, made);
      break;
    default:
      unreachable(seen);
  }
}

function countCall(seen: Extract<Seen, { kind: "call" }>, made: Made): void {
  const { method, code, ackMs, bytes } = seen;
  made.calls.inc({ method, code });
  if (bytes > 0) made.received.inc({ method }, bytes);
  if (code !== "OK") made.refused.inc({ code });
  else if (ACKNOWLEDGED.has(method)) made.acks.observe(ackMs / 1000);
}

function countStored(seen: Extract<Seen, { kind: "stored" }>, made: Made): void {
  const { operation, entries, ms, ok } = seen;
  if (!ok) made.failures.inc({ operation });
  if (operation !== "store.commit") return;
  made.commits.inc();
  made.committing.observe(ms / 1000);
  if (entries > 0) made.entries.observe(entries);
}
