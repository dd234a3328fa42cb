import { Coordinator } from "@tutti/coordinator/drive/coordinator";
import type { Federation } from "@tutti/coordinator/folder/federation";
import { adminHandlers } from "@tutti/coordinator/handlers/admin";
import { federationHandlers } from "@tutti/coordinator/handlers/federation";
import { openLog } from "@tutti/coordinator/observe/log";
import { Fault } from "@tutti/foundation/fault";
import { verifyCertificate } from "@tutti/identity/certificate";
import { CertificateSchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import type { Caller, DescMethod } from "@tutti/wire/rpc";
import { openModelArtifacts, type Shelf } from "./artifacts.ts";
import { AUTHORITY, agree, COORDINATOR, OWNER, secretOf, verify } from "./cast.ts";
import { Disk, type DiskWeather } from "./disk.ts";
import type { Life } from "./life.ts";
import { type Database, openModelStore } from "./store.ts";
import type { Server } from "./wire.ts";

export type Machine = {
  readonly database: Database;
  readonly shelf: Shelf;
  readonly weather: DiskWeather;
  readonly holdMs: number;
  /** Lines of its log. */
  readonly report: (line: string) => void;
  /** Told of a coordinator before it starts. */
  readonly made: (coordinator: Coordinator) => void;
};

/** One life of a coordinator's process: the real Coordinator, its drivers and its handlers. */
export type Process = Server & { readonly coordinator: Coordinator };

/** @throws whatever keeps a coordinator from starting; its supervisor starts another. */
export async function bootCoordinator(life: Life, machine: Machine): Promise<Process> {
  const { database, shelf, weather, holdMs, report, made } = machine;
  const disk = new Disk(life, weather);
  const federation = {
    authority: AUTHORITY,
    coordinator: COORDINATOR,
    owners: [{ name: OWNER.name, publicKey: OWNER.key.publicKey }],
  };
  const coordinator = new Coordinator({
    store: await openModelStore(database, disk),
    artifacts: openModelArtifacts(shelf, disk),
    // What a coordinator takes of a federation's folder; nothing here reads one.
    federation: federation as unknown as Federation,
    clock: life.clock,
    random: secretOf(life.name, life.timeline.nowMs),
    verify,
    agree,
    holdMs,
    log: openLog({ clock: life.clock, write: report }),
  });
  made(coordinator);
  await coordinator.start();
  const greeter = {
    openSession: () => ({ session: new Uint8Array(16), nowMs: life.clock.wallMs() }),
    authenticate: async () => null,
  };
  const services: Record<string, object> = {
    "tutti.v1.Federation": federationHandlers(coordinator, greeter),
    "tutti.v1.Admin": adminHandlers(coordinator),
  };
  return {
    life,
    coordinator,
    handler: ({ parent, localName }) =>
      (services[parent.typeName] as Record<string, (...args: never[]) => unknown>)[localName]!,
    admit: (name, role, method) => admit(database, { name, role, labels: {} }, { method, life }),
  };
}

const OPEN = new Set(["hello", "enroll"]);

/** Who may call, as the real door has it (grpc/authenticate.ts), of which only signatures are left out. */
function admit(
  database: Database,
  caller: Caller,
  { method, life }: { method: DescMethod; life: Life },
): Caller | null {
  if (OPEN.has(method.localName)) return null;
  if (caller.role === "owner") return caller;
  const device = database.device(caller.name);
  if (!device || device.revoked)
    throw new Fault("refused", "request", { expected: "an enrolled name", got: caller.name });
  const nowS = Math.floor(life.clock.wallMs() / 1000);
  const certificate = decode(CertificateSchema, device.certificate, 64 << 10);
  verifyCertificate(certificate, { authority: AUTHORITY, role: "device", nowS, verify });
  return caller;
}
