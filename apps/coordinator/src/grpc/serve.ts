import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerInterceptor,
  type ServiceDefinition,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { type DescMethod, type DescService, type Handlers, MAX_MESSAGE_BYTES, pathOf } from "@tutti/wire/rpc";
import type { Tls } from "../folder/tls.ts";
import type { Authenticate } from "./authenticate.ts";
import { type Around, type Down, downCall, type Unary, type Up, unaryCall, upCall } from "./calls.ts";
import { type ClientCertificates, ClientKeys } from "./client-keys.ts";
import { intake, Received } from "./intake.ts";
import { LIMITS, type Limits, MAX_SESSION_MIB } from "./limits.ts";
import { type Listener, listen } from "./listener.ts";
import { type LivenessWatch, type Serving, watchLiveness } from "./liveness.ts";
import { Load, watchLoad } from "./load.ts";
import { hearGrpc } from "./own-words.ts";
import { type Watch, watchStall } from "./stall.ts";
import { type Cause, Turned } from "./turned.ts";

/** A service and its handlers, kept together by `offer`. */
export type Offer<S extends DescService = DescService> = {
  readonly service: S;
  readonly handlers: Handlers<S>;
};

export type GrpcOptions<Services extends readonly DescService[]> = {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  /** PEM. */
  readonly tls: Tls;
  readonly services: { readonly [At in keyof Services]: Offer<Services[At]> };
  readonly authenticate: Authenticate;
  /** Default: LIMITS. */
  readonly limits?: Partial<Limits>;
  /** Whether devices show a TLS certificate of their own key. Default: they are not asked. */
  readonly clientCertificates?: ClientCertificates;
  /** Told of errors that are no answer to the caller: bugs and storage. */
  readonly onBug: (error: unknown, path: string) => void;
  /** Whom rounds wait for now; those that stand still are cut. */
  readonly serving?: () => Serving;
  /** Whether this process leads; where it does not, who is turned away asks another. Default: it does. */
  readonly leads?: () => boolean;
  /** Next to the network, before any of ours. */
  readonly interceptors?: readonly ServerInterceptor[];
};

export type GrpcServer = {
  readonly port: number;
  /** Shows another certificate from the next connection on; those that are open go on. */
  showTls(pair: Tls): void;
  /** How many are open. */
  readonly connections: () => number;
  /** What is open now: connections, those that nobody signed over yet, and calls that do not listen. */
  held(): {
    readonly connections: number;
    readonly newcomers: number;
    readonly calls: number;
    /** Who was turned away, since the start. */
    readonly turned: ReadonlyMap<Cause, number>;
  };
  /** Cuts every connection that is open; new ones are taken. */
  cut(): void;
  /** Lets calls in progress end for up to 2 s, then cuts them. */
  close(): Promise<void>;
};

/** docs/reliability.md, Connections: nothing is bounded by default. */
const CHANNEL = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  "grpc-node.max_session_memory": MAX_SESSION_MIB,
  "grpc.max_connection_idle_ms": 300_000,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // Counts every call for a service that is not served here.
  "grpc.enable_channelz": 0,
} as const;
const CLOSE_MS = 2_000;

/**
 * Serves protocol-neutral handlers over gRPC with TLS. @throws Fault("unavailable") where the port is taken.
 */
export async function serveGrpc<const Services extends readonly DescService[]>(
  options: GrpcOptions<Services>,
): Promise<GrpcServer> {
  const { host, port, tls, authenticate, onBug } = options;
  hearGrpc(onBug);
  const clientKeys = new ClientKeys(options.clientCertificates ?? "off");
  const limits = { ...LIMITS, ...options.limits };
  const load = new Load({ ...limits, ...(options.leads && { leads: options.leads }) });
  let listener: Listener | undefined;
  let liveness: LivenessWatch | undefined;
  const watchSender = (peer: string, onStall: () => void) => {
    const socket = listener?.connections.socketOf(peer);
    return socket ? watchStall(() => socket.bytesRead, onStall) : NEVER;
  };
  const watchReader = (peer: string) => {
    const socket = listener?.connections.socketOf(peer);
    // No status can reach a peer that reads nothing.
    return socket
      ? watchStall(
          () => socket.bytesWritten,
          () => socket.destroy(),
        )
      : NEVER;
  };
  const server = new Server({
    ...CHANNEL,
    "grpc.max_concurrent_streams": limits.streamsPerConnection,
    interceptors: [...(options.interceptors ?? []), intake(watchSender)],
  });
  const onKnown: Around["onKnown"] = (peer, caller) => {
    listener?.connections.known(peer, caller);
    const session = listener?.connections.sessionOf(peer);
    if (session) load.known(session, caller);
    liveness?.asked(caller.name);
  };
  const widen: Around["widen"] = (peer) => listener?.connections.widen(peer) ?? (() => {});
  const around = { authenticate, onBug, clientKeys, watchReader, onKnown, widen };
  for (const offered of options.services as readonly Offer[]) add(server, offered, around);
  const pair = { private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.certificate) };
  const credentials = ServerCredentials.createSsl(null, [pair]);
  const turned = new Turned();
  const door = { limits, load, nowMs: () => performance.now(), turned };
  listener = await listen(server, { host, port, credentials, limits, door, clientKeys });
  const { connections } = listener;
  const unwatch = watchLoad(load);
  const { serving = () => [] } = options;
  liveness = watchLiveness({ connections, load, turned, serving });
  return {
    port: listener.port,
    connections: () => connections.size,
    held: () => ({
      connections: connections.size,
      newcomers: connections.newcomers,
      calls: load.calls,
      turned: turned.counts,
    }),
    cut: listener.disconnectAll,
    showTls: listener.showTls,
    close: () => {
      liveness?.end();
      return close(server, listener).finally(unwatch);
    },
  };
}

const NEVER: Watch = { stop: () => {} };

type Surroundings = Omit<Around, "method" | "onBug"> & Pick<GrpcOptions<[]>, "onBug">;

function add(server: Server, { service, handlers }: Offer, { onBug, ...surroundings }: Surroundings): void {
  const definition: ServiceDefinition = {};
  const calls: Record<string, UntypedHandleCall> = {};
  for (const method of service.methods) {
    const bug = (error: unknown) => onBug(error, pathOf(method));
    Object.assign(definition, { [method.localName]: definitionOf(method) });
    calls[method.localName] = callOf(handlers, { method, onBug: bug, ...surroundings });
  }
  server.addService(definition, calls);
}

function definitionOf(method: DescMethod): MethodDefinition<Received, Uint8Array> {
  const serialize = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    path: pathOf(method),
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    // Messages are decoded by calls.ts, which needs their bytes as they came, for the signature over them.
    requestDeserialize: (buffer) => new Received(buffer),
    responseSerialize: serialize,
    requestSerialize: ({ bytes }) => serialize(bytes),
    responseDeserialize: (buffer) => buffer,
  };
}

function callOf(handlers: Handlers<DescService>, around: Around): UntypedHandleCall {
  const { method } = around;
  // Handlers<S> has one function of the method's kind under its name; here the kind is known at run time
  // only.
  const handler: unknown = (handlers as Record<string, unknown>)[method.localName];
  if (typeof handler !== "function")
    throw new Fault("bad-input", pathOf(method), { expected: "a handler", got: typeof handler });
  switch (method.methodKind) {
    case "unary":
      return unaryCall(handler as Unary, around);
    case "server_streaming":
      return downCall(handler as Down, around);
    case "client_streaming":
      return upCall(handler as Up, around);
    default:
      throw new Fault("unsupported", pathOf(method), { expected: "one direction", got: method.methodKind });
  }
}

async function close(server: Server, listener: Listener): Promise<void> {
  listener.stop();
  const ended = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, CLOSE_MS);
  });
  await Promise.race([ended, late]);
  clearTimeout(timer);
  server.forceShutdown();
  listener.destroy();
}
