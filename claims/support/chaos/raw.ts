import { randomBytes } from "node:crypto";
import http2, { type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import type { SigningKey } from "@tutti/identity/keys";
import { signRequest } from "@tutti/identity/request";
import { AUTHORIZATION, authorization } from "@tutti/wire/authorization";
import { HelloReplySchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import { FAULT_METADATA, faultFromGrpc } from "@tutti/wire/status";

/** How a call ended: well, with a Fault that was sent, or with a bare status of gRPC's own. */
export type Ended = { readonly fault: Fault | null; readonly bare: boolean; readonly body: Uint8Array };

/** Who signs: a device as it is enrolled, over a session that it opened. */
export type Signer = {
  readonly name: string;
  readonly key: SigningKey;
  readonly session: Uint8Array;
  readonly nowMs: () => number;
};

/** A call that nobody answers for so long is given up: its end is `cancelled`, by nobody. */
const PATIENCE_MS = 25_000;

/** A peer that speaks gRPC by hand, so that it can say what no client would. */
export class Raw {
  readonly session: ClientHttp2Session;

  constructor(port: number, tls: string) {
    this.session = http2.connect(`https://127.0.0.1:${port}`, {
      ca: tls,
      servername: "tutti",
      checkServerIdentity: () => undefined,
    });
    this.session.on("error", () => {});
  }

  get over(): boolean {
    return this.session.destroyed || this.session.closed;
  }

  open(path: string, more: http2.OutgoingHttpHeaders = {}): ClientHttp2Stream {
    const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
    const stream = this.session.request({ ...headers, ...more });
    stream.on("error", () => {});
    return stream;
  }

  /** Sends messages, and waits for the end of the call. */
  async call(
    path: string,
    messages: readonly Uint8Array[],
    more: http2.OutgoingHttpHeaders = {},
  ): Promise<Ended> {
    const stream = this.open(path, more);
    const ended = endOf(stream);
    const late = setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), PATIENCE_MS);
    for (const message of messages) stream.write(framed(message));
    stream.end();
    return await ended.finally(() => clearTimeout(late));
  }

  /** A session to sign for, and the coordinator's clock. */
  async greet(): Promise<{ session: Uint8Array; nowMs: number }> {
    const { fault, body } = await this.call("/tutti.v1.Federation/Hello", [new Uint8Array()]);
    if (fault) throw fault;
    return decode(HelloReplySchema, body, body.length);
  }

  close(): void {
    this.session.destroy();
  }
}

export function framed(message: Uint8Array, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The header that signs a request whose first message is `body`. */
export function signedHeader(path: string, body: Uint8Array, { name, key, session, nowMs }: Signer) {
  const auth = signRequest(key, {
    name,
    session,
    method: path,
    bodyHash: sha256(body),
    nonce: new Uint8Array(randomBytes(16)),
    expiresMs: Math.floor(nowMs()) + 60_000,
  });
  return { [AUTHORIZATION]: authorization(auth) };
}

/** The first message of the answer, and how the call ended. */
export function endOf(stream: ClientHttp2Stream): Promise<Ended> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let told: IncomingHttpHeaders | null = null;
    const hear = (headers: IncomingHttpHeaders) => {
      if (headers["grpc-status"] !== undefined) told = headers;
    };
    stream.on("response", hear).on("trailers", hear);
    stream.on("data", (data: Buffer) => parts.length < 64 && parts.push(data));
    stream.on("close", () => resolve(outcome(told, new Uint8Array(Buffer.concat(parts).subarray(5)))));
  });
}

function outcome(headers: IncomingHttpHeaders | null, body: Uint8Array): Ended {
  if (headers === null) return { fault: new Fault("unavailable", "connection"), bare: true, body };
  const code = Number(headers["grpc-status"]);
  if (code === 0) return { fault: null, bare: false, body };
  const sent = headers[FAULT_METADATA];
  const bytes = typeof sent === "string" ? new Uint8Array(Buffer.from(sent, "base64")) : undefined;
  const fault = faultFromGrpc({ code, details: `${headers["grpc-message"] ?? ""}`, fault: bytes });
  return { fault, bare: bytes === undefined, body };
}
