import { execFileSync } from "node:child_process";
import { createServer, connect as dial, type Socket } from "node:net";

/** How one coordinator reaches its database, and how devices reach the coordinator. */
export type Wire = {
  /** Where devices find it, and where it listens. */
  readonly host: string;
  /** Where it finds the database. */
  readonly database: { readonly host: string; readonly port: number };
  /** What it is started through, so that it is where its wire ends. */
  readonly through: readonly string[];
  /** From the next moment on no byte passes between it and the database; no connection is closed. */
  cut(): void;
  mend(): void;
};

export type Wires = {
  readonly kind: "network namespaces" | "a proxy";
  readonly wires: readonly Wire[];
  /** Addresses of this side, where the database has to listen. */
  readonly hosts: readonly string[];
  close(): void;
};

/**
 * A network namespace for each, with one link for devices and one for the database, where this machine allows
 * that; else everything on loopback, and a proxy before the database.
 */
export async function openWires(count: number, port: number): Promise<Wires> {
  const spaces = makeSpaces(count, port);
  if (spaces) return spaces;
  const proxies = await Promise.all(Array.from({ length: count }, () => openProxy(port)));
  return {
    kind: "a proxy",
    wires: proxies,
    hosts: ["127.0.0.1"],
    close: () => {
      for (const proxy of proxies) proxy.close();
    },
  };
}

function makeSpaces(count: number, port: number): Wires | null {
  const made: string[] = [];
  const close = () => {
    for (const name of made) ip("netns", "delete", name);
  };
  try {
    const numbers = Array.from({ length: count }, (_, at) => at);
    const wires = numbers.map((at) => {
      const name = `tutti${process.pid}n${at}`;
      ip("netns", "add", name);
      made.push(name);
      ip("-n", name, "link", "set", "lo", "up");
      const [devices, database] = [link(name, 2 * at), link(name, 2 * at + 1)];
      return {
        host: devices.there,
        database: { host: database.here, port },
        through: ["ip", "netns", "exec", name],
        cut: () => void ip("link", "set", database.name, "down"),
        mend: () => void ip("link", "set", database.name, "up"),
        here: database.here,
      };
    });
    return {
      kind: "network namespaces",
      wires,
      hosts: ["127.0.0.1", ...wires.map(({ here }) => here)],
      close,
    };
  } catch {
    // Not root, no `ip`, or a container that may not.
    close();
    return null;
  }
}

/** A pair of ends of a private subnet of four addresses: ours, and the namespace's. */
function link(space: string, number: number): { name: string; here: string; there: string } {
  const name = `tt${process.pid % 100_000}v${number}`;
  const subnet = `10.${64 + (process.pid % 64)}.${number}`;
  ip("link", "add", name, "type", "veth", "peer", "name", "eth", "netns", space);
  ip("-n", space, "link", "set", "eth", "name", `eth${number}`);
  ip("addr", "add", `${subnet}.1/30`, "dev", name);
  ip("-n", space, "addr", "add", `${subnet}.2/30`, "dev", `eth${number}`);
  ip("link", "set", name, "up");
  ip("-n", space, "link", "set", `eth${number}`, "up");
  return { name, here: `${subnet}.1`, there: `${subnet}.2` };
}

function ip(...words: string[]): string {
  return execFileSync("ip", words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Passes bytes both ways until it is cut: then it takes them, and connections, and passes nothing. */
async function openProxy(port: number): Promise<Wire & { close(): void }> {
  let open = true;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = open ? dial(port, "127.0.0.1") : null;
    for (const [from, to] of [
      [near, far],
      [far, near],
    ]) {
      if (!from) continue;
      sockets.add(from);
      from.on("error", () => {});
      from.on("data", (data) => void (open && to?.write(data)));
      from.on("close", () => {
        sockets.delete(from);
        if (open) to?.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const own = (server.address() as { port: number }).port;
  const drop = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    host: "127.0.0.1",
    database: { host: "127.0.0.1", port: own },
    through: [],
    cut: () => {
      open = false;
    },
    mend: () => {
      // What was in flight is lost: nothing of it may arrive late and in pieces.
      drop();
      open = true;
    },
    close: () => {
      drop();
      server.close();
    },
  };
}
