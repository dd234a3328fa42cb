import { constants } from "node:crypto";
import http2, { type Http2SecureServer, type SecureServerOptions } from "node:http2";
import { type AddressInfo, createServer, type Server as NetServer } from "node:net";
import type { Server, ServerCredentials } from "@grpc/grpc-js";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Tls } from "../folder/tls.ts";
import type { ClientKeys } from "./client-keys.ts";
import { Connections } from "./connections.ts";
import { type DoorOptions, guard } from "./door.ts";
import {
  HANDSHAKE_MS,
  HEADER_TABLE_BYTES,
  type Limits,
  MAX_HEADER_BYTES,
  MAX_HEADERS,
  MAX_INVALID_FRAMES,
  STREAM_WINDOW_BYTES,
} from "./limits.ts";

const SWEEP_MS = 1_000;
/** A federation that comes back at once is taken one by one, not refused; the kernel may hold fewer. */
const BACKLOG = 4_096;

/** No device resumes a TLS session; a ticket holds its certificate, and 16 KiB more a connection. */
const TLS = { minVersion: "TLSv1.3", secureOptions: constants.SSL_OP_NO_TICKET } as const;

/** A TCP port whose connections go to a gRPC server, and who is connected. */
export type Listener = {
  readonly port: number;
  readonly connections: Connections;
  /** Shows another certificate from the next connection on; those that are open go on. */
  showTls(pair: Tls): void;
  /** Takes no more connections; those that are open go on. */
  stop(): void;
  /** Cuts those that are open, and takes others. */
  disconnectAll(): void;
  /** Cuts those that are open, for good. */
  destroy(): void;
};

export type ListenOptions = {
  readonly host: string;
  readonly port: number;
  readonly credentials: ServerCredentials;
  readonly limits: Limits;
  readonly door: DoorOptions;
  readonly clientKeys: ClientKeys;
};

export async function listen(server: Server, options: ListenOptions): Promise<Listener> {
  const { credentials, limits, door, clientKeys } = options;
  const connections = new Connections(limits, door.nowMs, door.turned);
  let guarded = () => false;
  let http2Server: Http2SecureServer | undefined;
  const prepare = (http: Http2SecureServer) => {
    http2Server = http;
    guarded = guard(http, door);
    http.on("secureConnection", (socket) => clientKeys.came(socket));
    http.on("session", (session) => {
      const { remoteAddress, remotePort } = session.socket;
      connections.opened(`${remoteAddress}:${remotePort}`, session);
    });
  };
  const injector = withOurServer(() => server.createConnectionInjector(credentials), { clientKeys, prepare });
  assert(guarded(), "grpc-js takes its calls behind our door");
  const net = createServer({ noDelay: true }, (socket) => {
    // A reset is the peer's right; without a listener it would end this process.
    socket.on("error", () => {});
    if (connections.admit(socket)) injector.injectConnection(socket);
    else socket.destroy();
  });
  const port = await bind(net, options);
  const sweeping = setInterval(() => connections.sweep(), SWEEP_MS);
  sweeping.unref();
  return {
    port,
    connections,
    showTls: ({ key, certificate }) => http2Server?.setSecureContext({ ...TLS, key, cert: certificate }),
    stop: () => void net.close(),
    disconnectAll: () => connections.cut(),
    destroy: () => {
      clearInterval(sweeping);
      connections.cut();
      injector.destroy();
    },
  };
}

type Making = { readonly clientKeys: ClientKeys; prepare(server: Http2SecureServer): void };

/**
 * grpc-js has no option for most of what bounds an HTTP/2 server, and leaves its receive window at 64 KiB,
 * with which a 4 MiB upload at 50 ms takes 5 s. For the one call in which it makes its server, that server is
 * made with our settings, and prepared before grpc-js listens to it.
 */
function withOurServer<T>(make: () => T, { clientKeys, prepare }: Making): T {
  const original = http2.createSecureServer;
  let made = 0;
  const ours = (options: SecureServerOptions) => {
    made += 1;
    const server = original({
      ...options,
      ...TLS,
      // Clients' certificates sign themselves; whose the key in one is, authenticate.ts decides.
      ...(clientKeys.mode !== "off" && { requestCert: true, rejectUnauthorized: false }),
      handshakeTimeout: HANDSHAKE_MS,
      unknownProtocolTimeout: HANDSHAKE_MS,
      maxSessionInvalidFrames: MAX_INVALID_FRAMES,
      maxHeaderListPairs: MAX_HEADERS,
      // What a device sends is worth a table; the few headers of a reply are not.
      maxDeflateDynamicTableSize: 0,
      settings: {
        ...options.settings,
        headerTableSize: HEADER_TABLE_BYTES,
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxHeaderListSize: MAX_HEADER_BYTES,
      },
    });
    prepare(server);
    return server;
  };
  http2.createSecureServer = ours as typeof original;
  try {
    const result = make();
    // Otherwise a newer grpc-js makes its server elsewhere, and nothing of this would hold.
    assert(made === 1, "grpc-js made its HTTP/2 server with our limits");
    return result;
  } finally {
    http2.createSecureServer = original;
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  EADDRINUSE:
    "Another process has this port: stop it, or change listen.port in tutti.json; `tutti doctor` says more",
  EACCES: "A port below 1024 is the system's: change listen.port in tutti.json",
  EADDRNOTAVAIL: "It is no address of this machine: change listen.host in tutti.json",
};

function bind(net: NetServer, { host, port }: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    net.once("error", (cause: NodeJS.ErrnoException) => {
      const text = REMEDIES[cause.code ?? ""];
      const todo = text ? { todo: text } : {};
      reject(
        new Fault("unavailable", `listening on ${host}:${port}`, {
          got: cause.code ?? "an error",
          cause,
          ...todo,
        }),
      );
    });
    net.listen({ host, port, backlog: BACKLOG }, () => resolve((net.address() as AddressInfo).port));
  });
}
