import type { TLSSocket } from "node:tls";
import { selfSignedKey } from "@tutti/identity/x509";
import { PROBATION_MS } from "./limits.ts";

/** Whether clients are asked for a TLS certificate, and whether a connection without one is spoken to. */
export type ClientCertificates = "off" | "optional" | "required";

/** How long a denied device has to hear why. */
export const DENIED_MS = 1_000;

type Peer = { readonly key: Uint8Array | null; timer: NodeJS.Timeout | null };

/**
 * The keys that TLS peers proved to have. TLS checks nothing else of a client's certificate: the key in it is
 * the device's own, and whose that is our certificates say (authenticate.ts). Where certificates are
 * required, a connection without one is cut at once, and one that nobody vouches for after the probation.
 */
export class ClientKeys {
  readonly mode: ClientCertificates;
  readonly #peers = new Map<string, Peer & { readonly socket: TLSSocket }>();

  constructor(mode: ClientCertificates) {
    this.mode = mode;
  }

  /** A TLS connection that was made. */
  came(socket: TLSSocket): void {
    if (this.mode === "off") return;
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    const der = socket.getPeerX509Certificate()?.raw;
    const key = der ? selfSignedKey(new Uint8Array(der)) : null;
    if (key === null && this.mode === "required") return void socket.destroy();
    this.#peers.set(peer, { socket, key, timer: null });
    socket.once("close", () => this.#gone(peer, socket));
    this.doubt(peer);
  }

  /** Null for a peer that showed none. */
  keyOf(peer: string): Uint8Array | null {
    return this.#peers.get(peer)?.key ?? null;
  }

  /** A signed request on this connection was good. */
  vouch(peer: string): void {
    const known = this.#peers.get(peer);
    if (!known?.timer) return;
    clearTimeout(known.timer);
    known.timer = null;
  }

  /** A signed request was not: the connection is cut unless a good one follows. */
  doubt(peer: string): void {
    this.#cutIn(peer, PROBATION_MS);
  }

  /** A device that is denied: once that has reached it there is nothing more to say. */
  deny(peer: string): void {
    this.vouch(peer);
    this.#cutIn(peer, DENIED_MS);
  }

  #cutIn(peer: string, ms: number): void {
    const known = this.#peers.get(peer);
    if (this.mode !== "required" || !known || known.timer) return;
    known.timer = setTimeout(() => known.socket.destroy(), ms);
    known.timer.unref();
  }

  #gone(peer: string, socket: TLSSocket): void {
    const known = this.#peers.get(peer);
    if (known?.socket !== socket) return;
    if (known.timer) clearTimeout(known.timer);
    this.#peers.delete(peer);
  }
}
