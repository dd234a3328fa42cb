import type { Socket } from "node:net";
import type { ChannelCredentials } from "@grpc/grpc-js";

/** Seconds of round trips fit in it; a call's own deadline is longer (calls.ts). */
export const HANDSHAKE_MS = 10_000;

/**
 * The same credentials, whose TLS handshakes end in time. grpc-js waits for one for ever and keeps its socket
 * when the client is closed: with a peer that takes connections and says nothing, as a process that was
 * stopped, each try would leave one behind, and no process would end.
 */
export function inTime(credentials: ChannelCredentials, mostMs = HANDSHAKE_MS): ChannelCredentials {
  const make = credentials._createSecureConnector.bind(credentials);
  credentials._createSecureConnector = (...about) => {
    const connector = make(...about);
    const shake = connector.connect.bind(connector);
    connector.connect = (socket) => orDestroyed(shake(socket), { socket, mostMs });
    return connector;
  };
  return credentials;
}

async function orDestroyed<T>(
  shaken: Promise<T>,
  { socket, mostMs }: { socket: Socket; mostMs: number },
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no TLS handshake within ${mostMs / 1000} s`));
      socket.destroy();
    }, mostMs);
  });
  try {
    return await Promise.race([shaken, late]);
  } finally {
    clearTimeout(timer);
  }
}
