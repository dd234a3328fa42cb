import { assert } from "@tutti/foundation/check";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";

/** What one coordinator takes on (tutti.json, `limits`; docs/reliability.md, Connections). */
export type Limits = {
  /** Connections at once. */
  readonly connections: number;
  /** Of one peer address (network.ts), whoever they are: behind one there may be a hospital. */
  readonly connectionsPerAddress: number;
  /** Of one device; its oldest gives way, which is likely one that nobody closed. */
  readonly connectionsPerDevice: number;
  /** Connections over which no signed request came yet. */
  readonly newcomers: number;
  readonly streamsPerConnection: number;
  /** Calls that one connection may begin, a second; ten times as many at once. */
  readonly callsPerSecond: number;
  /** Signed calls in progress, but for those that only listen and for the messages of a round (load.ts). */
  readonly calls: number;
  /** Packed bytes of uploads that are being read, or kept for their device's return. */
  readonly uploadBytes: number;
  /** Resident size above which new work is turned away; 0: four fifths of what the machine has. */
  readonly memoryBytes: number;
};

export const LIMITS: Limits = {
  connections: 12_000,
  connectionsPerAddress: 1_000,
  connectionsPerDevice: 8,
  newcomers: 2_000,
  streamsPerConnection: 100,
  callsPerSecond: 100,
  calls: 2_000,
  uploadBytes: 256 << 20,
  memoryBytes: 0,
};

/** A TLS handshake that takes longer is given up. */
export const HANDSHAKE_MS = 10_000;
/**
 * A connection over which nobody signed a request for so long is cut: a slow loris, or a mistake. Counted
 * from when it was taken, its handshake too, and no more after the first good request.
 */
export const NEWCOMER_MS = 12_000;
/**
 * Where client certificates are required, one is also cut so long after its handshake, or after any request
 * that was refused, unless a good one follows: long enough to greet and to enrol. Less than NEWCOMER_MS,
 * which has to hold the handshake as well; and it begins anew with each refusal.
 */
export const PROBATION_MS = 10_000;
assert(HANDSHAKE_MS <= NEWCOMER_MS && NEWCOMER_MS < 15_000, "a connection that says nothing is cut in 15 s");

/**
 * What a peer may send before it is read, on a connection: what grpc-js and nghttp2 begin with. Held in
 * memory, so that strangers cost this much each and no more.
 */
export const NARROW_WINDOW_BYTES = (64 << 10) - 1;
/** While a device uploads: a 4 MiB vector at 50 ms must not wait for permission to go on. */
export const WIDE_WINDOW_BYTES = 4 << 20;
/** Of one stream: as much as the connection has, which is what bounds memory. */
export const STREAM_WINDOW_BYTES = WIDE_WINDOW_BYTES;
assert(WIDE_WINDOW_BYTES >= MAX_MESSAGE_BYTES, "a message fits into the window");

/**
 * All headers of a request. The largest of ours is the signature: 242 bytes where its name has the 64
 * characters that a name may have (libs/wire/src/authorization.ts).
 */
export const MAX_HEADER_BYTES = 16 << 10;
export const MAX_HEADERS = 64;
/**
 * HPACK's table of a connection's earlier headers (RFC 7541): the half dozen that every request repeats, and
 * a deadline that comes anew with each. Without it what a device sends beside its vector outgrows its bound
 * (claims/secagg/wire.ts).
 */
export const HEADER_TABLE_BYTES = 1 << 10;
/** PING and SETTINGS frames of a peer in ten seconds. */
export const MAX_CONTROL_FRAMES = 100;
/** Frames that break the protocol before the connection is closed. */
export const MAX_INVALID_FRAMES = 32;
/** Memory of one HTTP/2 session, in MiB; beyond, it takes no new streams. */
export const MAX_SESSION_MIB = 32;
