import {
  constants,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { asFault, Fault, type FaultCode } from "@tutti/foundation/fault";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { FAULT_METADATA } from "@tutti/wire/status";
import { statusOf } from "./faults.ts";
import { type Limits, MAX_CONTROL_FRAMES } from "./limits.ts";
import type { Load } from "./load.ts";
import { type Cause, Turned } from "./turned.ts";

/** `sent` has names and values by turns, as they came; of some names `headers` has the first value only. */
type OnStream = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  sent: readonly string[],
) => void;

/** What a session did of late: calls and control frames may come in bursts, not for ever. */
type Doings = { sinceMs: number; calls: number; frames: number };

export type DoorOptions = {
  readonly limits: Pick<Limits, "callsPerSecond">;
  readonly load: Load;
  readonly nowMs: () => number;
  /** Counts who is turned away. */
  readonly turned?: Turned;
};

const CAUSE_OF: { readonly [Code in FaultCode]?: Cause } = { unsupported: "compressed", unavailable: "busy" };
const WINDOW_MS = 10_000;
/** A peer that keeps its half of an answered call open for so long has it closed. */
const LINGER_MS = 5_000;

/**
 * Stands before grpc-js on an HTTP/2 server: what it need not see, it does not see. To be called before
 * grpc-js adds its own listeners; says, when asked, whether grpc-js came in by it.
 */
export function guard(server: Http2SecureServer, options: DoorOptions): () => boolean {
  const { limits, load, nowMs, turned = new Turned() } = options;
  const doings = new WeakMap<ServerHttp2Session, Doings>();
  const count = (session: ServerHttp2Session, what: "calls" | "frames", most: number) => {
    const atMs = nowMs();
    let own = doings.get(session);
    if (!own || atMs - own.sinceMs >= WINDOW_MS) {
      own = { sinceMs: atMs, calls: 0, frames: 0 };
      doings.set(session, own);
    }
    if (++own[what] <= most) return true;
    turned.add("rate");
    session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
  };
  const onControl = function (this: ServerHttp2Session) {
    count(this, "frames", MAX_CONTROL_FRAMES);
  };
  server.on("session", (session) => session.on("ping", onControl).on("remoteSettings", onControl));
  const most = limits.callsPerSecond * (WINDOW_MS / 1000);
  const at =
    (onStream: OnStream): OnStream =>
    (stream, headers, flags, sent) => {
      const session = stream.session as ServerHttp2Session | undefined;
      if (!session || !count(session, "calls", most)) return stream.destroy();
      try {
        mustBePlain(headers);
        mustBeText(sent);
        mustSignOnce(sent);
        const cut = () => {
          turned.add("busy");
          stream.close(constants.NGHTTP2_REFUSED_STREAM);
        };
        stream.once("close", load.enter({ method: nameOf(headers), session, cut }));
      } catch (error) {
        const fault = asFault(error);
        turned.add(CAUSE_OF[fault.code] ?? "malformed");
        return turnAway(stream, fault);
      }
      stream.once("finish", linger);
      onStream(stream, headers, flags, sent);
    };
  let taken = false;
  const on = server.on.bind(server) as (event: string, listener: OnStream) => Http2SecureServer;
  // Only grpc-js listens for streams, and it does so once.
  server.on = ((event: string, listener: OnStream) => {
    const first = event === "stream" && !taken;
    taken ||= first;
    return on(event, first ? at(listener) : listener);
  }) as typeof server.on;
  return () => taken;
}

/**
 * grpc-js decompresses every message of a frame at once, before anybody asked who sent it: 16 KiB become
 * 16 MiB. Nobody has a reason to compress what we are sent.
 */
function mustBePlain(headers: IncomingHttpHeaders): void {
  const encoding = headers["grpc-encoding"];
  if (encoding === undefined || encoding === "identity") return;
  throw new Fault("unsupported", "request", { expected: "no compression", got: `${encoding}`.slice(0, 40) });
}

/** What grpc-js takes for a name and for a value (its metadata.ts). */
const NAME = /^[:0-9a-z_.-]+$/;
const VALUE = /^[ -~]*$/;

/** Of a header that it cannot take grpc-js prints all, a signature or whatever a stranger wants in a log. */
function mustBeText(sent: readonly string[]): void {
  const odd = sent.findIndex((text, at) => !(at % 2 === 0 ? NAME : VALUE).test(text));
  if (odd < 0) return;
  const what = odd % 2 === 0 ? "header's name" : `header ${sent[odd - 1]}`.slice(0, 80);
  throw new Fault("bad-message", what, { expected: "printable ASCII", got: "other characters" });
}

/** Whoever stands between may look at one of several, and we at another. */
function mustSignOnce(sent: readonly string[]): void {
  const signatures = sent.filter((text, at) => at % 2 === 0 && text === AUTHORIZATION).length;
  if (signatures <= 1) return;
  throw new Fault("refused", "request", { expected: "one signature", got: `${signatures}` });
}

/** "Upload" of "/tutti.v1.Federation/Upload". */
function nameOf(headers: IncomingHttpHeaders): string {
  const path = headers[":path"] ?? "";
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The call's answer, without reading anything of it. */
function turnAway(stream: ServerHttp2Stream, fault: Fault): void {
  const { code, details, metadata } = statusOf(fault);
  const [bytes] = metadata.get(FAULT_METADATA);
  stream.on("error", () => {});
  const headers = {
    ":status": 200,
    "content-type": "application/grpc+proto",
    "grpc-status": code,
    "grpc-message": encodeURI(details),
    [FAULT_METADATA]: (bytes as Buffer).toString("base64"),
  };
  stream.respond(headers, { endStream: true });
}

function linger(this: ServerHttp2Stream): void {
  if (this.closed) return;
  const timer = setTimeout(() => this.close(constants.NGHTTP2_NO_ERROR), LINGER_MS);
  timer.unref();
  this.once("close", () => clearTimeout(timer));
}
