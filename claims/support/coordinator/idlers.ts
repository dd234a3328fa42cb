// Devices that listen and do nothing else, thousands of them: node --import tsx idlers.ts '<args as JSON>'.
// They speak the protocol over plain HTTP/2, since a grpc-js channel each would cost more than what is
// measured: Hello, a signed Listen, and the SDK's own waits between tries.
import { randomBytes } from "node:crypto";
import http2, { type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import tls from "node:tls";
import { LONGEST_DELAY_MS, mayPass, returnMs } from "@tutti/client-sdk/backoff";
import { nativeSigningKey, tlsIdentity } from "@tutti/client-sdk/node/sign";
import { fromHex } from "@tutti/foundation/bytes";
import { asFault, Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { signRequest } from "@tutti/identity/request";
import { AUTHORIZATION, authorization } from "@tutti/wire/authorization";
import { type HelloReply, HelloReplySchema, type RetryWindow } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { FAULT_METADATA, faultFromGrpc } from "@tutti/wire/status";
import { asChild } from "../round/child.ts";

export type IdlersArgs = {
  readonly port: number;
  /** PEM of the coordinator's certificate. */
  readonly tls: string;
  /** Hex. One key for all devices here: the coordinator cannot tell, and this process needs less memory. */
  readonly seed: string;
  readonly names: readonly string[];
  readonly showsCertificate: boolean;
  /** They all arrive within this window, as after a restart of theirs. */
  readonly windowMs: number;
};

export type IdlersSaid =
  /** `turnedAway`: tries that the coordinator answered with when to come back. */
  | {
      readonly kind: "listening";
      readonly devices: number;
      readonly tries: number;
      readonly turnedAway: number;
    }
  | { readonly kind: "failed"; readonly because: string };

const [args, say] = asChild<IdlersArgs, IdlersSaid, never>(() => {});
const key = nativeSigningKey(fromHex(args.seed));
const shown = args.showsCertificate ? tlsIdentity(fromHex(args.seed)) : null;
/** One for all connections: what each costs here is no matter. */
const context = tls.createSecureContext({
  ca: args.tls,
  ...(shown ? { key: shown.key, cert: shown.certificate } : {}),
});
const { hello, listen } = Federation.method;
const EMPTY = Buffer.from([0, 0, 0, 0, 0]);
let [listening, tries, turnedAway] = [0, 0, 0];

/** Addresses of this machine, since one has 28,000 ports at most. */
function addressOf(at: number): string {
  return `127.0.0.${2 + (at % 20)}`;
}

/** When the coordinator wants to see a device again, as it told it last. */
type Told = { window?: RetryWindow | undefined };

async function idle(name: string, at: number): Promise<void> {
  const jitter = seededRandom(name);
  const told: Told = {};
  await sleep(jitter.uniform() * args.windowMs);
  for (let attempt = 0; ; attempt++) {
    tries += 1;
    const sinceMs = performance.now();
    const because = await once(name, at, told).catch(asFault);
    // As the SDK counts: a stream that held for longer than one waits for was no failed attempt.
    if (performance.now() - sinceMs > LONGEST_DELAY_MS) attempt = 0;
    if (because?.detail.retryAfterMs !== undefined) turnedAway += 1;
    if (because && !mayPass(because)) return say({ kind: "failed", because: because.message });
    await sleep(returnMs(attempt, { jitter }, { because, window: told.window }));
  }
}

/** One connection, until it ends. */
async function once(name: string, at: number, told: Told): Promise<Fault | null> {
  const how: tls.ConnectionOptions & { localAddress: string } = {
    host: "127.0.0.1",
    port: args.port,
    localAddress: addressOf(at),
    secureContext: context,
    ALPNProtocols: ["h2"],
    servername: "tutti",
    checkServerIdentity: () => undefined,
  };
  const socket = tls.connect(how);
  const session = http2.connect(`https://127.0.0.1:${args.port}`, {
    createConnection: () => socket,
    settings: { enablePush: false },
  });
  let up = false;
  try {
    const ended = new Promise<Fault>((resolve) => {
      session.once("error", (cause) => resolve(new Fault("unavailable", "connection", { cause })));
      session.once("close", () => resolve(new Fault("unavailable", "connection", { got: "closed" })));
    });
    const greeted = await Promise.race([unary(session), ended.then((fault) => Promise.reject(fault))]);
    told.window = greeted.retry;
    const auth = signRequest(key, {
      name,
      session: greeted.session,
      method: pathOf(listen),
      bodyHash: sha256(new Uint8Array()),
      nonce: new Uint8Array(randomBytes(16)),
      expiresMs: greeted.nowMs + 60_000,
    });
    const signed = authorization(auth);
    const stream = requestOn(session, { ...headersOf(pathOf(listen)), [AUTHORIZATION]: signed });
    const refused = new Promise<Fault>((resolve) => {
      stream.on("error", (cause) => resolve(new Fault("unavailable", "stream", { cause })));
      stream.on("response", (headers) => {
        const fault = faultIn(headers);
        if (fault) resolve(fault);
      });
      stream.on("trailers", (headers) => resolve(faultIn(headers) ?? new Fault("unavailable", "stream")));
    });
    stream.on("data", () => {
      // The first word opens the stream; there is nothing to do about it.
    });
    stream.end(EMPTY);
    // A coordinator with nothing to say says nothing, not even that it listens: it is asked who is there.
    up = true;
    listening += 1;
    return await Promise.race([refused, ended]);
  } finally {
    if (up) listening -= 1;
    session.destroy();
  }
}

function unary(session: ClientHttp2Session) {
  return new Promise<HelloReply>((resolve, reject) => {
    const stream = requestOn(session, headersOf(pathOf(hello)));
    const parts: Buffer[] = [];
    stream.on("response", (headers) => {
      const fault = faultIn(headers);
      if (fault) reject(fault);
    });
    stream.on("error", (cause) => reject(new Fault("unavailable", "hello", { cause })));
    stream.on("data", (data: Buffer) => parts.push(data));
    stream.on("end", () => {
      const body = new Uint8Array(Buffer.concat(parts).subarray(5));
      if (body.length > 0) resolve(decode(HelloReplySchema, body, body.length));
      else reject(new Fault("unavailable", "hello"));
    });
    stream.end(EMPTY);
  });
}

/** @throws Fault("unavailable") where the connection is gone already, which Node calls a mistake of ours. */
function requestOn(session: ClientHttp2Session, headers: http2.OutgoingHttpHeaders) {
  if (session.destroyed || session.closed) throw new Fault("unavailable", "connection", { got: "closed" });
  return session.request(headers);
}

function headersOf(path: string): http2.OutgoingHttpHeaders {
  return { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
}

function faultIn(headers: IncomingHttpHeaders): Fault | null {
  const code = headers["grpc-status"];
  if (code === undefined || code === "0") return null;
  const sent = headers[FAULT_METADATA];
  const fault = typeof sent === "string" ? new Uint8Array(Buffer.from(sent, "base64")) : undefined;
  return faultFromGrpc({ code: Number(code), details: `${headers["grpc-message"]}`, fault });
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

setInterval(() => say({ kind: "listening", devices: listening, tries, turnedAway }), 200);
await Promise.all(args.names.map(idle));
