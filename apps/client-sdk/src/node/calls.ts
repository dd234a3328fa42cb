import {
  type Client,
  type ClientWritableStream,
  type Metadata,
  type ServiceError,
  setLogger,
} from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { type DescMessage, decode, encode, type MessageShape } from "@tutti/wire/message";
import { type DescMethod, MAX_MESSAGE_BYTES, pathOf } from "@tutti/wire/rpc";
import { FAULT_METADATA, faultFromGrpc } from "@tutti/wire/status";

/**
 * grpc-js prints what it cannot take of a coordinator's headers, as they came. It has one logger in a
 * process, and says nothing there that a call does not end with.
 */
setLogger({ error: () => {}, info: () => {}, debug: () => {} });

/** One call as it goes out: already signed. */
type Outgoing<M extends DescMethod = DescMethod> = {
  readonly client: Client;
  readonly method: M;
  readonly metadata: Metadata;
  readonly signal?: AbortSignal | undefined;
  /** Instead of the method's own. */
  readonly deadlineMs?: number | undefined;
};

type Reply<M extends DescMethod> = MessageShape<M["output"]>;
export type Message = MessageShape<DescMessage>;

/** How long a call may take; a stream of words runs until it is cancelled. */
const DEADLINES_MS: Readonly<Record<string, number>> = {
  Listen: Number.POSITIVE_INFINITY,
  Watch: Number.POSITIVE_INFINITY,
  Fetch: 600_000,
  Put: 600_000,
  Upload: 600_000,
};
const UNARY_DEADLINE_MS = 20_000;

/**
 * What a device's way back to its coordinator goes through. Only the coordinator can say no there, with a
 * Fault; a bare status is of gRPC itself or of a proxy, and no reason to stay away.
 */
const RETURNING: ReadonlySet<string> = new Set(["Hello", "Listen"]);

/** One request, one reply. `body` is what was signed, so it is what is sent. */
export function unary<M extends DescMethod>(out: Outgoing<M>, body: Uint8Array): Promise<Reply<M>> {
  const { client, method, metadata, signal, deadlineMs } = out;
  let stop = () => {};
  const reply = new Promise<Reply<M>>((resolve, reject) => {
    const done = answer(out, resolve, reject);
    const call = client.makeUnaryRequest(
      pathOf(method),
      toBuffer,
      same,
      body,
      metadata,
      deadline(method, deadlineMs),
      done,
    );
    stop = onAbort(signal, () => call.cancel());
  });
  return reply.finally(() => stop());
}

/** One request, many replies; leaving the loop cancels the call. */
export async function* down(out: Outgoing, body: Uint8Array): AsyncGenerator<Message> {
  const { client, method, metadata } = out;
  const call = client.makeServerStreamRequest(
    pathOf(method),
    toBuffer,
    same,
    body,
    metadata,
    deadline(method),
  );
  const stop = onAbort(out.signal, () => call.cancel());
  try {
    for await (const bytes of call) yield decode(method.output, bytes as Uint8Array, MAX_MESSAGE_BYTES);
  } catch (error) {
    throw error instanceof Fault ? error : faultOf(out, error as ServiceError);
  } finally {
    stop();
    call.cancel();
  }
}

/**
 * Many requests, one reply. `head` is the first message's bytes, which were signed; `rest` follows as it
 * drains.
 */
export async function up(out: Outgoing, head: Uint8Array, rest: AsyncIterator<Message>): Promise<Message> {
  const { client, method, metadata, signal } = out;
  let stop = () => {};
  let call: ClientWritableStream<Uint8Array> | undefined;
  const reply = new Promise<Message>((resolve, reject) => {
    const done = answer(out, resolve, reject);
    call = client.makeClientStreamRequest(pathOf(method), toBuffer, same, metadata, deadline(method), done);
    const open = call;
    // The reply's callback tells every failure; the stream's own event would only end the process.
    open.on("error", () => {});
    stop = onAbort(signal, () => open.cancel());
  });
  try {
    // The reply may come before all is sent: a refusal should not wait for the last chunk.
    await Promise.race([reply, send(call!, head, { method, rest })]);
    return await reply;
  } catch (error) {
    reply.catch(() => {});
    call?.cancel();
    throw error;
  } finally {
    stop();
    await rest.return?.();
  }
}

/**
 * `write()` returning false is honoured: memory grows with the file otherwise (docs/reliability.md,
 * Connections).
 */
async function send(
  call: ClientWritableStream<Uint8Array>,
  head: Uint8Array,
  { method, rest }: { method: DescMethod; rest: AsyncIterator<Message> },
): Promise<void> {
  for (let bytes: Uint8Array | null = head; bytes !== null; ) {
    if (!call.write(bytes)) await drained(call);
    const next: IteratorResult<Message> = await rest.next();
    bytes = next.done ? null : encode(method.input, next.value);
  }
  call.end();
}

function drained(call: ClientWritableStream<Uint8Array>): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      call.off("drain", go).off("close", go).off("error", go);
      resolve();
    };
    call.on("drain", go).on("close", go).on("error", go);
  });
}

function answer<M extends DescMethod>(
  out: Outgoing<M>,
  resolve: (reply: Reply<M>) => void,
  reject: (fault: unknown) => void,
): (error: ServiceError | null, reply?: Uint8Array) => void {
  return (error, reply) => {
    if (error) return reject(faultOf(out, error));
    try {
      resolve(decode(out.method.output, reply ?? new Uint8Array(), MAX_MESSAGE_BYTES) as Reply<M>);
    } catch (fault) {
      reject(fault);
    }
  };
}

function deadline({ name }: DescMethod, own?: number): { deadline: number } {
  const ms = own ?? DEADLINES_MS[name] ?? UNARY_DEADLINE_MS;
  // grpc-js takes a date in ms; deadlines inside it are timers, so a stepped clock only moves this one start.
  return { deadline: Date.now() + ms };
}

function onAbort(signal: AbortSignal | undefined, cancel: () => void): () => void {
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  return () => signal?.removeEventListener("abort", cancel);
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function same(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * The Fault that came back, or what the status says; a call that we ended ourselves is cancelled, whatever
 * it says.
 */
function faultOf({ client, method: { name }, signal }: Outgoing, error: ServiceError): Fault {
  if (signal?.aborted) return new Fault("cancelled", name, { cause: signal.reason });
  const [sent] = error.metadata?.get(FAULT_METADATA) ?? [];
  const fault = sent instanceof Uint8Array ? sent : undefined;
  // "dns:host:port"
  const address = client.getChannel().getTarget().replace(/^dns:/, "");
  const { code, message, details = message } = error;
  const because = faultFromGrpc({ code, details, fault, address });
  return fault === undefined && RETURNING.has(name)
    ? new Fault("unavailable", because.what, { ...because.detail, cause: because })
    : because;
}
