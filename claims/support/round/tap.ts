import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { PATHS } from "@tutti/coordinator/folder/layout";

/** What went over the connections of a federation, in the clear: bytes for each direction of each one. */
export type Tap = { readonly address: string; bytes(): Uint8Array[]; close(): void };

/**
 * Stands between the sites and the coordinator with the coordinator's own TLS key, and keeps all that goes
 * through: at least what its handlers received and sent, and how it was framed.
 */
export async function tap(federation: string, port: number): Promise<Tap> {
  const key = await readFile(join(federation, PATHS.tlsKey));
  const cert = await readFile(join(federation, PATHS.tlsCertificate));
  const streams: Buffer[][] = [];
  const sockets = new Set<TLSSocket>();
  const keep = (from: TLSSocket, to: TLSSocket) => {
    const chunks: Buffer[] = [];
    streams.push(chunks);
    sockets.add(from);
    from.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      to.write(chunk);
    });
    from.on("error", () => to.destroy());
    from.on("close", () => to.end());
  };
  const server = createServer({ key, cert, ALPNProtocols: ["h2"] }, (site) => {
    const checkServerIdentity = () => undefined;
    const coordinator = connect({
      host: "127.0.0.1",
      port,
      ca: cert,
      ALPNProtocols: ["h2"],
      checkServerIdentity,
    });
    keep(site, coordinator);
    keep(coordinator, site);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: own } = server.address() as { port: number };
  return {
    address: `127.0.0.1:${own}`,
    bytes: () => streams.map((chunks) => new Uint8Array(Buffer.concat(chunks))),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
