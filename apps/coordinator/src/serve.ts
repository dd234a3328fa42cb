import { systemClock } from "@tutti/foundation/clock";
import { platformRandom } from "@tutti/foundation/random";
import { Admin } from "@tutti/wire/admin";
import { Federation } from "@tutti/wire/round";
import { Register, Standing } from "@tutti/wire/standing";
import { artifactsOf } from "./artifacts/open.ts";
import type { Coordinator } from "./drive/coordinator.ts";
import type { CoordinatorParts } from "./drive/parts.ts";
import type { Keeping } from "./drive/retention.ts";
import { armFailpoints, failpoint } from "./failpoint.ts";
import { addressOf, type Config } from "./folder/config.ts";
import { openFederation } from "./folder/federation.ts";
import { openKeys } from "./folder/key-modes.ts";
import { servedTls } from "./folder/served-tls.ts";
import { observing } from "./grpc/observed.ts";
import { serveGrpc } from "./grpc/serve.ts";
import { gated } from "./lead/gate.ts";
import { keepOffice } from "./lead/keep.ts";
import type { Role } from "./lead/keeper.ts";
import { Office } from "./lead/office.ts";
import { nativeAgree, nativeVerify, rememberingVerify } from "./native.ts";
import { openLog } from "./observe/log.ts";
import { lineWriter } from "./observe/stderr.ts";
import { logTrouble } from "./observe/trouble.ts";
import { Watch } from "./operate/watch.ts";
import { openDatabase } from "./store/database.ts";
import { readLease, touchLease } from "./store/lease.ts";
import type { Store } from "./store/store.ts";
import { LiftPool } from "./unmask/pool.ts";

export type ServeOptions = {
  /** Made by `initFederation`. */
  readonly folder: string;
  /** Instead of the configured one; 0 picks a free port. */
  readonly port?: number;
  /**
   * What stands before the store: claims and stories watch it, or end the process between two of its steps.
   */
  readonly around?: (store: Store) => Store;
};

export type Server = {
  readonly name: string;
  readonly address: string;
  /** Of metrics and probes, where tutti.json asks for them. */
  readonly operationsPort: number | undefined;
  /** Whether this process leads; on SQLite it always does. */
  role(): Role;
  /** Calls back at once, and at every change; returns how to end that. */
  onRole(callback: (role: Role) => void): () => void;
  /** What is at work while this process leads. @throws Fault("unavailable") while it stands by. */
  readonly coordinator: Coordinator;
  /** Looks at once whether tls.key and tls.pem are others than before; it looks by itself now and then. */
  reloadTls(): Promise<void>;
  close(): Promise<void>;
};

/** A few writes to a disk, and far less than any device notices. */
const HOLD_MS = 50;

/**
 * Starts a federation's coordinator: its database, its artifacts, one TLS port. On SQLite it leads when this
 * resolves; on PostgreSQL it stands by until it has the lease, and again when it has lost it.
 */
export async function serveFederation(options: ServeOptions): Promise<Server> {
  armFailpoints(process.env);
  failpoint("serve.begin");
  const opened: Opened = [];
  return await start(options, opened).catch(async (cause: unknown) => {
    // What went wrong first is what to say.
    await closeAll(opened).catch(() => {});
    throw cause;
  });
}

/** How to close what is open, in the order of opening. */
type Opened = (() => unknown)[];

/** The last first, each of them whatever the others do; what failed first is thrown at the end. */
async function closeAll(opened: Opened): Promise<void> {
  const failed: unknown[] = [];
  for (const close of opened.splice(0).reverse()) {
    try {
      await close();
    } catch (cause) {
      failed.push(cause);
    }
  }
  if (failed.length > 0) throw failed[0];
}

async function start({ folder, port, around }: ServeOptions, opened: Opened): Promise<Server> {
  const federation = await openFederation(folder);
  const { config } = federation;
  const clock = systemClock();
  const format = process.stderr.isTTY ? "text" : "json";
  const log = openLog({ format, ...config.log, clock, write: lineWriter() });
  for (const open of await openKeys(folder)) log.say("key.open", open);
  const watch = await Watch.open({ clock, log, config });
  opened.push(() => watch.close());
  const engine = await openDatabase(folder, config);
  opened.push(() => engine.close());
  failpoint("serve.opened");
  const unmasking = new LiftPool();
  const served = await servedTls(folder, federation.tls);
  const artifacts = watch.over("artifacts", await artifactsOf(folder, config));
  const parts = partsOf({ artifacts, federation, clock, log, lift: unmasking.lift, servedDers: served.ders });
  const office = new Office();
  const grpc = await openPort(office, { parts, port: port ?? config.listen.port, watch });
  opened.push(() => grpc.close());
  opened.push(() => unmasking.close());
  failpoint("serve.listening");
  // Before it leads: whoever cannot be watched as it is told to leaves the lease to another.
  const operationsPort = await watch.listen();
  const address = addressOf({ host: config.host, port: grpc.port });
  const keeping = await keepOffice({
    engine,
    office,
    parts,
    around: (store) => watch.overStore(around ? around(store) : store),
    watch: (coordinator) => watch.rounds(coordinator),
    address,
    cut: grpc.cut,
  });
  opened.push(() => keeping.close());
  const seen = { held: grpc.held, tls: () => served.ders()[0]!, askStore: () => readLease(engine) };
  watch.begin({ office, federation, ...seen, askWrite: () => touchLease(engine) });
  const tls = served.watch({
    tell: (ders) => office.coordinator?.notices.shows(ders),
    show: grpc.showTls,
    changed: (until) => log.say("tls.changed", { until }),
    failed: (fault) => log.say("tls.kept", { error: fault.message }),
  });
  opened.push(() => tls.close());
  const { host } = config.listen;
  const about = { host, port: grpc.port, operationsPort, store: engine.name, federation: config.name };
  log.say("serve.started", about);
  return {
    name: config.name,
    address,
    operationsPort,
    role: () => office.role,
    onRole: (callback) => office.onRole(callback),
    get coordinator() {
      return office.term().coordinator;
    },
    reloadTls: tls.look,
    async close() {
      failpoint("serve.closing");
      log.say("serve.stopping");
      watch.stopping();
      await closeAll(opened);
      log.say("serve.stopped");
    },
  };
}

type Own = Pick<CoordinatorParts, "artifacts" | "federation" | "clock" | "log" | "lift" | "servedDers">;

function partsOf(own: Own): Omit<CoordinatorParts, "store"> {
  return {
    ...own,
    random: platformRandom(),
    verify: rememberingVerify(nativeVerify),
    agree: nativeAgree,
    holdMs: HOLD_MS,
    kept: keptBy(own.federation.config),
  };
}

type Port = { readonly parts: Omit<CoordinatorParts, "store">; readonly port: number; readonly watch: Watch };

/** The one port: TLS, signed requests, what devices and owners may ask of whoever leads. */
function openPort(office: Office, { parts: { federation, clock, log }, port, watch }: Port) {
  const { listen, identity, limits } = federation.config;
  return serveGrpc({
    host: listen.host,
    port,
    tls: federation.tls,
    services: [
      { service: Federation, handlers: gated(Federation, () => office.term().federation) },
      { service: Admin, handlers: gated(Admin, () => office.term().admin) },
      { service: Standing, handlers: gated(Standing, () => office.term().standing) },
      { service: Register, handlers: gated(Register, () => office.term().register) },
    ],
    authenticate: async (...request) => await office.term().authenticate(...request),
    limits,
    serving: () => office.coordinator?.dispatch.serving() ?? [],
    leads: () => office.leads,
    clientCertificates: identity.clientCertificates,
    interceptors: [observing(clock, watch.observe)],
    onBug: (error, method) => logTrouble(log, error, { doing: `answering ${method}` }),
  });
}

/** What the config says of rounds and releases, as kinds of files, and of the audit log. */
function keptBy({ retention: { rounds, releases, auditEntries } }: Config): Keeping {
  return {
    ...(rounds !== undefined && { evidence: rounds }),
    ...(releases !== undefined && { adapter: releases }),
    ...(auditEntries !== undefined && { entries: auditEntries }),
  };
}
