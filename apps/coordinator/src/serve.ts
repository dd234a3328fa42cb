import { join } from "node:path";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom } from "@tutti/foundation/random";
import { verifyCertificate } from "@tutti/identity/certificate";
import { Admin } from "@tutti/wire/admin";
import { CertificateSchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { artifactsOf } from "./artifacts/open.ts";
import { Coordinator } from "./drive/coordinator.ts";
import { armFailpoints, failpoint } from "./failpoint.ts";
import { openFederation } from "./folder/federation.ts";
import { authenticator } from "./grpc/authenticate.ts";
import { observing } from "./grpc/observed.ts";
import { serveGrpc } from "./grpc/serve.ts";
import { adminHandlers } from "./handlers/admin.ts";
import { federationHandlers } from "./handlers/federation.ts";
import { nativeAgree, nativeVerify, rememberingVerify } from "./native.ts";
import { openLog } from "./observe/log.ts";
import { lineWriter } from "./observe/stderr.ts";
import { logTrouble } from "./observe/trouble.ts";
import { Watch } from "./operate/watch.ts";
import { openStore, type Store } from "./store/store.ts";
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
  readonly coordinator: Coordinator;
  close(): Promise<void>;
};

/** A few writes to a disk, and far less than any device notices. */
const HOLD_MS = 50;

/** Starts a federation's coordinator: store, artifacts, runs in progress, and one TLS port. */
export async function serveFederation({ folder, port, around }: ServeOptions): Promise<Server> {
  armFailpoints(process.env);
  failpoint("serve.begin");
  const federation = await openFederation(folder);
  const clock = systemClock();
  const format = process.stderr.isTTY ? "text" : "json";
  const log = openLog({ format, ...federation.config.log, clock, write: lineWriter() });
  const watch = await Watch.open({ clock, log, config: federation.config });
  const opened = await openStore({ file: join(folder, "coordinator", "tutti.sqlite") });
  const store = watch.over("store", around ? around(opened) : opened);
  failpoint("serve.opened");
  const artifacts = watch.over("artifacts", await artifactsOf(folder, federation.config));
  const unmasking = new LiftPool();
  const coordinator = new Coordinator({
    store,
    artifacts,
    federation,
    clock,
    random: platformRandom(),
    verify: rememberingVerify(nativeVerify),
    agree: nativeAgree,
    lift: unmasking.lift,
    holdMs: HOLD_MS,
    log,
  });
  await coordinator.start();
  failpoint("serve.resumed");
  const grpc = await openPort(coordinator, { port: port ?? federation.config.listen.port, watch });
  failpoint("serve.listening");
  const operationsPort = await watch.begin({
    coordinator,
    federation,
    connections: grpc.connections,
    role: () => ({ role: "leader", epoch: store.epoch }),
    askStore: () => store.run(""),
  });
  const { host } = federation.config.listen;
  log.say("serve.started", { host, port: grpc.port, operationsPort, federation: federation.config.name });
  return {
    name: federation.config.name,
    address: `${federation.config.host}:${grpc.port}`,
    operationsPort,
    coordinator,
    async close() {
      failpoint("serve.closing");
      log.say("serve.stopping");
      watch.stopping();
      await coordinator.close();
      await unmasking.close();
      await grpc.close();
      await store.close();
      await watch.close();
      log.say("serve.stopped");
    },
  };
}

/** The one port: TLS, signed requests, what devices and owners may ask. */
function openPort(coordinator: Coordinator, { port, watch }: { port: number; watch: Watch }) {
  const { clock, federation, log } = coordinator.parts;
  const auth = authenticator({
    lookup: (name) => lookup(coordinator, name),
    nowMs: () => clock.wallMs(),
    random: platformRandom(),
    // Each request's signature is another one.
    verify: nativeVerify,
  });
  return serveGrpc({
    host: federation.config.listen.host,
    port,
    tls: federation.tls,
    services: [
      { service: Federation, handlers: federationHandlers(coordinator, auth) },
      { service: Admin, handlers: adminHandlers(coordinator) },
    ],
    authenticate: auth.authenticate,
    limits: federation.config.limits,
    clientCertificates: federation.config.identity.clientCertificates,
    interceptors: [observing(clock, watch.observe)],
    onBug: (error, method) => logTrouble(log, error, { doing: `answering ${method}` }),
  });
}

/** The key behind a name: an enrolled device's that is not revoked, or an owner's of this federation. */
async function lookup({ parts }: Coordinator, name: string) {
  const owner = parts.federation.owners.find((one) => one.name === name);
  if (owner) return { publicKey: owner.publicKey, role: "owner", labels: {} };
  const device = await parts.store.device(name);
  if (!device || device.revoked) return undefined;
  const nowS = Math.floor(parts.clock.wallMs() / 1000);
  const { authority } = parts.federation;
  const certificate = decode(CertificateSchema, device.certificate, 64 << 10);
  return verifyCertificate(certificate, { authority, role: "device", nowS, verify: parts.verify });
}
