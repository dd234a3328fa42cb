import http2, { type SecureServerOptions } from "node:http2";
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import type { Server, ServerCredentials } from "@grpc/grpc-js";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Shown } from "./shown.ts";

/** What a peer may send of one message, or of all, before we read: a 4 MiB upload needs few round trips. */
const STREAM_WINDOW_BYTES = 1 << 20;
const CONNECTION_WINDOW_BYTES = 4 << 20;
const HANDSHAKE_MS = 10_000;
/** Idle TLS connections cost memory (docs/reliability.md, Connections). */
const MAX_CONNECTIONS = 10_000;

/** A TCP port whose connections go to a gRPC server, and the sockets behind its peers. */
export type Listener = {
  readonly port: number;
  /** The socket of a peer as grpc-js names it, "address:port". */
  socketOf(peer: string): Socket | undefined;
  /** How many connections are open. */
  connections(): number;
  /** Takes no more connections. */
  stop(): void;
  /** Cuts those that are open. */
  cut(): void;
};

export async function listen(
  server: Server,
  options: { host: string; port: number; credentials: ServerCredentials; shown: Shown },
): Promise<Listener> {
  const injector = withWindows(options.shown, () => server.createConnectionInjector(options.credentials));
  const sockets = new Map<string, Socket>();
  const net = createServer({ noDelay: true }, (socket) => {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    sockets.set(peer, socket);
    socket.once("close", () => sockets.delete(peer));
    // A reset is the peer's right; without a listener it would end this process.
    socket.on("error", () => {});
    injector.injectConnection(socket);
  });
  net.maxConnections = MAX_CONNECTIONS;
  const port = await bind(net, options);
  return {
    port,
    socketOf: (peer) => sockets.get(peer),
    connections: () => sockets.size,
    stop: () => void net.close(),
    cut: () => {
      for (const socket of sockets.values()) socket.destroy();
      injector.destroy();
    },
  };
}

/**
 * grpc-js leaves a server's receive window at HTTP/2's 64 KiB, with which a 4 MiB upload at 50 ms takes 5 s.
 * For the one call in which it makes its HTTP/2 server, that server is made with our settings.
 */
function withWindows<T>(shown: Shown, make: () => T): T {
  const original = http2.createSecureServer;
  let made = 0;
  const widened = (options: SecureServerOptions) => {
    made += 1;
    const server = original({
      ...options,
      minVersion: "TLSv1.3",
      // No certificate but our own vouches for a client's, so TLS is not to look for one (shown.ts).
      ...(shown.mode !== "off" && { requestCert: true, rejectUnauthorized: false }),
      handshakeTimeout: HANDSHAKE_MS,
      settings: { ...options.settings, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    server.on("secureConnection", (socket) => shown.came(socket));
    server.on("session", (session) => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    return server;
  };
  http2.createSecureServer = widened as typeof original;
  try {
    return make();
  } finally {
    http2.createSecureServer = original;
    // Otherwise a newer grpc-js makes its server elsewhere, and uploads would quietly be slow.
    assert(made === 1, "grpc-js made its HTTP/2 server with our windows");
  }
}

function bind(net: NetServer, { host, port }: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    net.once("error", (cause: NodeJS.ErrnoException) => {
      const todo = cause.code === "EADDRINUSE" ? { todo: "Another process has this port" } : {};
      reject(
        new Fault("unavailable", `listening on ${host}:${port}`, {
          got: cause.code ?? "an error",
          cause,
          ...todo,
        }),
      );
    });
    net.listen({ host, port }, () => resolve((net.address() as AddressInfo).port));
  });
}
