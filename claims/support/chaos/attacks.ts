import { once } from "node:events";
import { connect, type Socket } from "node:net";
import tls from "node:tls";
import { gzipSync } from "node:zlib";
import { create, encode } from "@tutti/wire/message";
import { FetchRequestSchema, ReportRequestSchema } from "@tutti/wire/round";
import { frame, literal, POST_HTTPS, PREFACE } from "./frames.ts";
import { type Ended, endOf, framed, Raw, type Signer, signedHeader } from "./raw.ts";

/** Whom the attacks meet, and as whom they sign where that gets them further. */
export type Target = {
  readonly port: number;
  readonly tls: string;
  readonly signer: Signer;
  /** SHA-256 of a large artifact. */
  readonly large: Uint8Array;
};

export type Attack = {
  readonly name: string;
  readonly expected: string;
  /** What became of it, and whether that is as expected. */
  run(target: Target): Promise<{ got: string; good: boolean }>;
};

const REPORT = "/tutti.v1.Federation/Report";
const FETCH = "/tutti.v1.Federation/Fetch";
const UPLOAD = "/tutti.v1.Federation/Upload";
const LORIS = 125;
const MOST_MS = 15_000;
/** A machine that is busy is late by this much; the coordinator's own limits are below 15 s. */
const LATE_MS = 2_000;
const PATIENCE_MS = 40_000;

const REQUEST = Buffer.concat([POST_HTTPS, literal(":path", "/x"), literal(":authority", "tutti")]);

export const ATTACKS: readonly Attack[] = [
  loris("silent sockets", raw),
  loris("half a TLS hello", (target) => written(raw(target), Buffer.from("16030100f8010000f40303", "hex"))),
  loris("TLS, then silence", secure),
  loris("TLS, then a byte a second", (target) => dribbling(secure(target))),
  {
    name: "a call that nobody signs or sends",
    expected: "cut within 15 s",
    run: async (target) => {
      const peer = new Raw(target.port, target.tls);
      const startMs = performance.now();
      peer.open(REPORT).write(Buffer.from([0, 0, 0, 0, 100, 1]));
      return cutIn(await closed(peer.session, startMs));
    },
  },
  {
    name: "an upload that stalls after its header",
    expected: "refused, or cut within 15 s",
    run: async (target) => {
      const { ended, ms } = await signed(target, UPLOAD, new Uint8Array([0x0a, 0x00]), { half: true });
      return { ...said(ended), good: ended.fault !== null && ms < MOST_MS + LATE_MS };
    },
  },
  {
    name: "a reader that stands still",
    expected: "cut within 15 s",
    run: async (target) => {
      const body = encode(FetchRequestSchema, create(FetchRequestSchema, { sha256: target.large }));
      const peer = new Raw(target.port, target.tls);
      const stream = peer.open(FETCH, signedHeader(FETCH, body, target.signer));
      stream.end(framed(body));
      await once(stream, "data");
      stream.pause();
      return cutIn(await closed(peer.session, performance.now()));
    },
  },
  {
    name: "a message of 2 MiB",
    expected: "bad-message",
    run: (target) => answered(target, "bad-message", (peer) => peer.call(REPORT, [new Uint8Array(2 << 20)])),
  },
  {
    name: "a gzip bomb",
    expected: "unsupported",
    run: (target) =>
      answered(target, "unsupported", async (peer) => {
        const stream = peer.open(REPORT, { "grpc-encoding": "gzip" });
        const ended = endOf(stream);
        stream.end(framed(gzipSync(new Uint8Array(1 << 20)), 1));
        return await ended;
      }),
  },
  {
    name: "garbage before TLS",
    expected: "cut",
    run: async (target) => gone(written(raw(target), Buffer.alloc(4096, 0x41))),
  },
  {
    name: "garbage after TLS",
    expected: "cut",
    run: async (target) => gone(written(secure(target), Buffer.alloc(4096, 0x41))),
  },
  {
    name: "malformed HTTP/2 frames",
    expected: "cut",
    run: async (target) => {
      const broken = Buffer.from([0xff, 0xff, 0xff, 0x04, 0xff, 0, 0, 0, 0]);
      return gone(written(secure(target), Buffer.concat([PREFACE, ...Array(64).fill(broken)])));
    },
  },
  {
    name: "a signed message that is no protobuf",
    expected: "bad-message",
    run: async (target) => {
      const { ended } = await signed(target, REPORT, Uint8Array.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
      return { ...said(ended), good: ended.fault?.code === "bad-message" };
    },
  },
  {
    name: "headers without end",
    expected: "refused or cut",
    run: async (target) => {
      const peer = new Raw(target.port, target.tls);
      const more = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, "y".repeat(300)]));
      const ended = await peer.call(REPORT, [new Uint8Array()], more);
      peer.close();
      return { ...said(ended), good: ended.fault !== null };
    },
  },
  {
    name: "calls opened and reset without end",
    expected: "cut",
    run: async (target) => {
      const socket = secure(target);
      const ended = closed(socket, performance.now());
      await once(socket, "secureConnect");
      socket.write(Buffer.concat([PREFACE, frame({ type: 4, stream: 0, body: Buffer.alloc(0) })]));
      for (let stream = 1; stream < 40_000 && socket.writable; stream += 2) {
        const open = frame({ type: 1, flags: 4, stream, body: REQUEST });
        const reset = frame({ type: 3, stream, body: Buffer.from([0, 0, 0, 8]) });
        if (!socket.write(Buffer.concat([open, reset]))) await Promise.race([once(socket, "drain"), ended]);
      }
      return cutIn(await ended);
    },
  },
  {
    name: "a request again, byte for byte",
    expected: "refused",
    run: async (target) => {
      const body = encode(ReportRequestSchema, create(ReportRequestSchema));
      const header = signedHeader(REPORT, body, target.signer);
      const peer = new Raw(target.port, target.tls);
      const first = await peer.call(REPORT, [body], header);
      const second = await peer.call(REPORT, [body], header);
      peer.close();
      return { ...said(second), good: first.fault === null && second.fault?.code === "refused" };
    },
  },
];

function loris(name: string, open: (target: Target) => Socket): Attack {
  return {
    name: `${LORIS} times ${name}`,
    expected: "cut within 15 s",
    run: async (target) => {
      const startMs = performance.now();
      const all = Array.from({ length: LORIS }, () => closed(open(target), startMs));
      return cutIn(Math.max(...(await Promise.all(all))));
    },
  };
}

function raw({ port }: Target): Socket {
  return connect({ host: "127.0.0.1", port }).on("error", () => {});
}

function secure({ port, tls: ca }: Target): Socket {
  const how = { host: "127.0.0.1", port, ca, ALPNProtocols: ["h2"], servername: "tutti" };
  return tls.connect({ ...how, checkServerIdentity: () => undefined }).on("error", () => {});
}

function written(socket: Socket, bytes: Uint8Array): Socket {
  socket.write(bytes);
  return socket;
}

function dribbling(socket: Socket): Socket {
  let at = 0;
  const timer = setInterval(() => {
    if (at < PREFACE.length && socket.writable) socket.write(PREFACE.subarray(at, ++at));
  }, 1000);
  return socket.once("close", () => clearInterval(timer));
}

/** When a connection closes, in ms since `startMs`; infinite if it does not. */
async function closed(from: Socket | Raw["session"], startMs: number): Promise<number> {
  from.on("error", () => {});
  if (!("ping" in from)) from.resume();
  const late = new Promise<number>((resolve) => {
    setTimeout(() => resolve(Number.POSITIVE_INFINITY), PATIENCE_MS).unref();
  });
  const over = new Promise<number>((resolve) => {
    from.once("close", () => resolve(performance.now() - startMs));
  });
  const ms = await Promise.race([over, late]);
  from.destroy();
  return ms;
}

function cutIn(ms: number): { got: string; good: boolean } {
  const got = Number.isFinite(ms) ? `cut after ${(ms / 1000).toFixed(1)} s` : "not cut";
  return { got, good: ms < MOST_MS + LATE_MS };
}

async function gone(socket: Socket): Promise<{ got: string; good: boolean }> {
  return cutIn(await closed(socket, performance.now()));
}

async function answered(target: Target, code: string, ask: (peer: Raw) => Promise<Ended>) {
  const peer = new Raw(target.port, target.tls);
  const ended = await ask(peer);
  peer.close();
  return { ...said(ended), good: ended.fault?.code === code };
}

async function signed(target: Target, path: string, body: Uint8Array, { half = false } = {}) {
  const peer = new Raw(target.port, target.tls);
  const startMs = performance.now();
  const stream = peer.open(path, signedHeader(path, body, target.signer));
  const ended = endOf(stream);
  stream.write(framed(body));
  if (!half) stream.end();
  const late = setTimeout(() => peer.close(), PATIENCE_MS);
  const outcome = await ended;
  clearTimeout(late);
  peer.close();
  return { ended: outcome, ms: performance.now() - startMs };
}

function said({ fault }: Ended): { got: string } {
  return { got: fault ? `${fault.code}: ${fault.message}`.slice(0, 100) : "taken" };
}
