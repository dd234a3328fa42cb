import { EventEmitter } from "node:events";
import type { TLSSocket } from "node:tls";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { selfSigned } from "@tutti/identity/x509";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ClientKeys, DENIED_MS } from "../../src/grpc/client-keys.ts";
import { PROBATION_MS } from "../../src/grpc/limits.ts";

const key = signingKey(newSeed(platformRandom()));
const PEER = "10.0.0.1:5000";

class Socket extends EventEmitter {
  readonly remoteAddress = "10.0.0.1";
  readonly remotePort = 5000;
  readonly raw: Uint8Array | null;
  destroyed = false;
  constructor(raw: Uint8Array | null) {
    super();
    this.raw = raw;
  }
  getPeerX509Certificate() {
    return this.raw ? { raw: Buffer.from(this.raw) } : undefined;
  }
  destroy() {
    this.destroyed = true;
    this.emit("close");
  }
}

function arrive(mode: "off" | "optional" | "required", raw: Uint8Array | null = selfSigned(key)) {
  const clientKeys = new ClientKeys(mode);
  const socket = new Socket(raw);
  clientKeys.came(socket as unknown as TLSSocket);
  return { clientKeys, socket };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("keys that TLS peers show", () => {
  test("nobody is asked where certificates are off", () => {
    const { clientKeys, socket } = arrive("off");
    expect(clientKeys.keyOf(PEER)).toBe(null);
    vi.advanceTimersByTime(PROBATION_MS);
    expect(socket.destroyed).toBe(false);
  });

  test("optional: who shows a key has it, who shows none stays", () => {
    expect(arrive("optional").clientKeys.keyOf(PEER)).toEqual(key.publicKey);
    const { clientKeys, socket } = arrive("optional", null);
    vi.advanceTimersByTime(PROBATION_MS);
    expect([clientKeys.keyOf(PEER), socket.destroyed]).toEqual([null, false]);
  });

  test("required: without one, or with another kind, the connection is cut at once", () => {
    expect(arrive("required", null).socket.destroyed).toBe(true);
    expect(arrive("required", selfSigned(key).subarray(1)).socket.destroyed).toBe(true);
  });

  test("required: a key that nobody vouches for is cut after the probation, a device's is not", () => {
    const [stranger, device] = [arrive("required"), arrive("required")];
    device.clientKeys.vouch(PEER);
    vi.advanceTimersByTime(PROBATION_MS);
    expect([stranger.socket.destroyed, device.socket.destroyed]).toEqual([true, false]);
    expect(stranger.clientKeys.keyOf(PEER)).toBe(null);
  });

  test("required: a device that is denied is cut as soon as it was told why", () => {
    const { clientKeys, socket } = arrive("required");
    clientKeys.vouch(PEER);
    clientKeys.deny(PEER);
    vi.advanceTimersByTime(DENIED_MS - 1);
    expect(socket.destroyed).toBe(false);
    vi.advanceTimersByTime(1);
    expect(socket.destroyed).toBe(true);
  });

  test("required: a refusal begins the probation anew, and a good request ends it", () => {
    const { clientKeys, socket } = arrive("required");
    clientKeys.vouch(PEER);
    clientKeys.doubt(PEER);
    clientKeys.vouch(PEER);
    vi.advanceTimersByTime(PROBATION_MS);
    expect(socket.destroyed).toBe(false);
    clientKeys.doubt(PEER);
    vi.advanceTimersByTime(PROBATION_MS - 1);
    clientKeys.doubt(PEER);
    vi.advanceTimersByTime(1);
    expect(socket.destroyed).toBe(true);
  });
});
