import type { Coordinator } from "@tutti/coordinator/drive/coordinator";
import { checkConfig } from "@tutti/coordinator/folder/config";
import type { Federation } from "@tutti/coordinator/folder/federation";
import { beginTerm } from "@tutti/coordinator/lead/term";
import { openLog } from "@tutti/coordinator/observe/log";
import { Fault } from "@tutti/foundation/fault";
import type { Caller, DescMethod } from "@tutti/wire/rpc";
import { openModelArtifacts, type Shelf } from "./artifacts.ts";
import { AUTHORITY, agree, COORDINATOR, OWNER, secretOf, verify } from "./cast.ts";
import { Disk, type DiskWeather } from "./disk.ts";
import type { Life } from "./life.ts";
import { type Database, openSimulatedStore } from "./store.ts";
import type { Server } from "./wire.ts";

export type Machine = {
  readonly database: Database;
  readonly shelf: Shelf;
  readonly weather: DiskWeather;
  readonly holdMs: number;
  /** Whether a device's certificate ends soon. */
  readonly isShort: (name: string) => boolean;
  /** Lines of its log. */
  readonly report: (line: string) => void;
};

/** One life of a coordinator's process: the real Coordinator, its drivers and its handlers. */
export type Process = Server & { readonly coordinator: Coordinator };

/** What a coordinator takes of a federation's folder; nothing here reads one. */
const FEDERATION = {
  authority: AUTHORITY,
  coordinator: COORDINATOR,
  owners: [{ name: OWNER.name, publicKey: OWNER.key.publicKey }],
  config: checkConfig({
    version: 1,
    name: "simulation",
    host: "localhost",
    port: 7443,
    listen: { host: "localhost", port: 7443 },
  }),
} as unknown as Federation;

/** @throws whatever keeps a coordinator from starting; its supervisor starts another. */
export async function bootCoordinator(life: Life, machine: Machine): Promise<Process> {
  const { database, shelf, weather, holdMs, report } = machine;
  const disk = new Disk(life, weather);
  const term = await beginTerm({
    store: await openSimulatedStore(database, disk, life.clock.wallMs),
    artifacts: openModelArtifacts(shelf, disk),
    federation: FEDERATION,
    clock: life.clock,
    random: secretOf(life.name, life.timeline.nowMs),
    verify,
    agree,
    holdMs,
    log: openLog({ clock: life.clock, write: report }),
  });
  const { coordinator } = term;
  const services: Record<string, object> = {
    "tutti.v1.Federation": term.federation,
    "tutti.v1.Admin": term.admin,
    "tutti.v1.Standing": term.standing,
    "tutti.v1.Register": term.register,
  };
  return {
    life,
    coordinator,
    handler: ({ parent, localName }) =>
      (services[parent.typeName] as Record<string, (...args: never[]) => unknown>)[localName]!,
    admit: admitting(coordinator, machine),
  };
}

const OPEN = new Set(["hello", "enroll", "renew", "tlsCertificates"]);

type Admit = (name: string, method: DescMethod) => Promise<Caller | null>;

/**
 * Who may call, as the real door has it (grpc/authenticate.ts), of which only signatures are left out. What
 * it found of a device is remembered while nothing about it can have changed: a third of all reading.
 */
function admitting(coordinator: Coordinator, { database, isShort }: Machine): Admit {
  const known = new Map<string, Caller>();
  return async (name, { localName }) => {
    if (OPEN.has(localName)) return null;
    const before = known.get(name);
    if (before && !database.revoked.has(name) && !isShort(name)) return before;
    const party = await coordinator.registry.lookup(name);
    if (!party) throw new Fault("refused", "request", { expected: "an enrolled name", got: name });
    if (party.denied) throw party.denied;
    const { role, labels } = party;
    const caller = { name, role, labels };
    known.set(name, caller);
    return caller;
  };
}
