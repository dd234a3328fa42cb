import { connect, createServer, type Socket } from "node:net";

/** Counts what goes up through it: all bytes of the socket, so TLS records and HTTP/2 frames too. */
export type Counter = { readonly address: string; upBytes(): number; close(): void };

/** Stands between a device and `address`, host and port; passes everything on as it is. */
export async function counter(address: string): Promise<Counter> {
  const [host, port] = address.split(":") as [string, string];
  let bytes = 0;
  const sockets = new Set<Socket>();
  const server = createServer((device) => {
    const coordinator = connect({ host, port: Number(port) });
    for (const [from, to] of [
      [device, coordinator],
      [coordinator, device],
    ] as const) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
    device.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: own } = server.address() as { port: number };
  return {
    address: `127.0.0.1:${own}`,
    upBytes: () => bytes,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
