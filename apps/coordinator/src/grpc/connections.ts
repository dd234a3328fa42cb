import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import type { Caller } from "@tutti/wire/rpc";
import { type Limits, NARROW_WINDOW_BYTES, NEWCOMER_MS, WIDE_WINDOW_BYTES } from "./limits.ts";
import { networkOf } from "./network.ts";
import { Turned } from "./turned.ts";

/** One connection of a peer. */
type Connection = {
  /** As grpc-js names it, "address:port". */
  readonly peer: string;
  readonly socket: Socket;
  /** Whose it is: what the cap of an address counts. */
  readonly network: string;
  readonly openedMs: number;
  session: ServerHttp2Session | null;
  /** The device that signed a request over it, or an owner; null for a newcomer. */
  name: string | null;
  /** Uploads in progress. */
  wide: number;
  /** Until it is gone, or is told to go. */
  counts: boolean;
};

type Caps = Pick<Limits, "connections" | "connectionsPerAddress" | "connectionsPerDevice" | "newcomers">;

/**
 * Who is connected. Newcomers have little time and little memory; a device that signed has its own share,
 * and room for an upload while it sends one.
 */
export class Connections {
  readonly #caps: Caps;
  readonly #nowMs: () => number;
  readonly #all = new Map<string, Connection>();
  /** Oldest first. */
  readonly #newcomers = new Set<Connection>();
  readonly #perNetwork = new Map<string, number>();
  readonly #ofName = new Map<string, Connection[]>();

  readonly #turned: Turned;

  constructor(caps: Caps, nowMs: () => number, turned = new Turned()) {
    this.#caps = caps;
    this.#nowMs = nowMs;
    this.#turned = turned;
  }

  get size(): number {
    return this.#all.size;
  }

  get newcomers(): number {
    return this.#newcomers.size;
  }

  /** Takes a connection in; false, and nothing kept, where there is no room for it. */
  admit(socket: Socket): boolean {
    const address = socket.remoteAddress ?? "";
    const { connections, connectionsPerAddress, newcomers } = this.#caps;
    const network = networkOf(address);
    const beside = this.#beside(network);
    // Who says nothing gives way to who may: honest newcomers are through in well under a second. Of an
    // address that has all it may, to others of it: strangers there do not shut out its devices.
    if (beside >= connectionsPerAddress) this.#evict(network);
    else if (this.#newcomers.size >= newcomers) this.#evict();
    if (this.#all.size >= connections || this.#beside(network) >= connectionsPerAddress) {
      this.#turned.add("full");
      return false;
    }
    const peer = `${address}:${socket.remotePort}`;
    const since = { openedMs: this.#nowMs(), session: null, name: null, wide: 0, counts: true };
    const connection: Connection = { peer, socket, network, ...since };
    this.#all.set(peer, connection);
    this.#newcomers.add(connection);
    this.#perNetwork.set(network, this.#beside(network) + 1);
    socket.once("close", () => this.#forget(connection));
    return true;
  }

  /** The socket of a peer as grpc-js names it, "address:port". */
  socketOf(peer: string): Socket | undefined {
    return this.#all.get(peer)?.socket;
  }

  sessionOf(peer: string): ServerHttp2Session | null {
    return this.#all.get(peer)?.session ?? null;
  }

  /** The HTTP/2 session over a peer's connection. */
  opened(peer: string, session: ServerHttp2Session): void {
    const connection = this.#all.get(peer);
    if (connection) connection.session = session;
  }

  /** A request over this connection was signed by `name`. An owner's tools may open what they like. */
  known(peer: string, { name, role }: Pick<Caller, "name" | "role">): void {
    const connection = this.#all.get(peer);
    if (!connection || connection.name !== null) return;
    connection.name = name;
    this.#newcomers.delete(connection);
    if (role !== "device") return;
    const own = this.#ofName.get(name) ?? [];
    own.push(connection);
    this.#ofName.set(name, own);
    if (own.length <= this.#caps.connectionsPerDevice) return;
    this.#turned.add("device");
    own.shift()!.socket.destroy();
  }

  /** All that a device signed requests over. */
  connectionsOf(name: string): readonly Pick<Connection, "socket" | "session">[] {
    return this.#ofName.get(name) ?? [];
  }

  /** Room for an upload on a peer's connection, until it is told that this one is over. */
  widen(peer: string): () => void {
    const connection = this.#all.get(peer);
    if (!connection) return () => {};
    if (connection.wide++ === 0) setWindow(connection, WIDE_WINDOW_BYTES);
    return () => {
      if (--connection.wide === 0) setWindow(connection, NARROW_WINDOW_BYTES);
    };
  }

  /** Cuts newcomers that had their time; to be called every second or so. */
  sweep(): void {
    const nowMs = this.#nowMs();
    for (const { openedMs, socket } of this.#newcomers) {
      if (nowMs - openedMs < NEWCOMER_MS) return;
      this.#turned.add("silent");
      socket.destroy();
    }
  }

  cut(): void {
    for (const { socket } of this.#all.values()) socket.destroy();
  }

  #beside(network: string): number {
    return this.#perNetwork.get(network) ?? 0;
  }

  /** The oldest newcomer, or the oldest of a network; it counts no more from here on. */
  #evict(network?: string): void {
    for (const oldest of this.#newcomers) {
      if (network !== undefined && oldest.network !== network) continue;
      this.#turned.add("newcomer");
      this.#forget(oldest);
      return void oldest.socket.destroy();
    }
  }

  #forget(connection: Connection): void {
    const { peer, network, name } = connection;
    if (!connection.counts) return;
    connection.counts = false;
    if (this.#all.get(peer) === connection) this.#all.delete(peer);
    this.#newcomers.delete(connection);
    const beside = this.#beside(network) - 1;
    if (beside > 0) this.#perNetwork.set(network, beside);
    else this.#perNetwork.delete(network);
    if (name === null) return;
    const own = (this.#ofName.get(name) ?? []).filter((one) => one !== connection);
    if (own.length > 0) this.#ofName.set(name, own);
    else this.#ofName.delete(name);
  }
}

function setWindow({ session }: Connection, bytes: number): void {
  if (session && !session.destroyed && !session.closed) session.setLocalWindowSize(bytes);
}
