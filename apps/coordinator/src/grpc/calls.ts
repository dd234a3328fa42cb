import type {
  Metadata,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
} from "@grpc/grpc-js";
import { asFault, Fault } from "@tutti/foundation/fault";
import { denialOf } from "@tutti/identity/denial";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { type DescMessage, decode, encode, type MessageShape } from "@tutti/wire/message";
import { type Call, type Caller, type DescMethod, MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Authenticate } from "./authenticate.ts";
import type { ClientKeys } from "./client-keys.ts";
import { statusOfError } from "./faults.ts";
import type { Received } from "./intake.ts";
import type { Watch } from "./stall.ts";

/** What grpc-js's three kinds of call have in common. */
type AnyCall = {
  readonly metadata: Metadata;
  readonly cancelled: boolean;
  getPeer(): string;
  on(event: "cancelled", listener: () => void): unknown;
};

type Message = MessageShape<DescMessage>;

/** A handler as its method's kind has it (libs/wire/src/rpc.ts); the descriptor says which. */
export type Unary = (request: Message, call: Call) => Promise<Message>;
export type Down = (request: Message, call: Call) => AsyncIterable<Message>;
export type Up = (requests: AsyncIterable<Message>, call: Call) => Promise<Message>;

/** What each call needs beside its handler. */
export type Around = {
  readonly method: DescMethod;
  readonly authenticate: Authenticate;
  /** Told of what is not a Fault, and of storage. */
  readonly onBug: (error: unknown) => void;
  /** The keys that TLS peers have. */
  readonly clientKeys: ClientKeys;
  /** Cuts the connection of a peer that does not read while we wait for it. */
  readonly watchReader: (peer: string) => Watch;
  /** Told whose a connection is, with each request that is signed. */
  readonly onKnown: (peer: string, caller: Caller) => void;
  /** Gives a peer's connection room to send much, until it is told that all came. */
  readonly widen: (peer: string) => () => void;
};

/** The message types on grpc-js's side: bytes in, with a word when they are taken; bytes out. */
type In = Received;
type Out = Uint8Array;

export function unaryCall(handler: Unary, around: Around) {
  return async (call: ServerUnaryCall<In, Out>, reply: sendUnaryData<Out>): Promise<void> => {
    const { method, onBug } = around;
    try {
      const request = await admit(call, call.request, around);
      const answer = await handler(request.message, request.call);
      reply(null, encode(method.output, answer));
    } catch (error) {
      reply(statusOfError(error, onBug));
    }
  };
}

export function downCall(handler: Down, around: Around) {
  return async (call: ServerWritableStream<In, Out>): Promise<void> => {
    const { method, onBug } = around;
    let replies: AsyncIterator<Message> | undefined;
    try {
      const request = await admit(call, call.request, around);
      const { signal } = request.call;
      const iterator = handler(request.message, request.call)[Symbol.asyncIterator]();
      replies = iterator;
      // When the client goes, the handler is told twice: by the signal, and by `return` where it waits for
      // nothing.
      signal.addEventListener("abort", () => void quietReturn(iterator), { once: true });
      for (let next = await iterator.next(); !next.done && !signal.aborted; next = await iterator.next()) {
        await send(call, encode(method.output, next.value), { signal, around });
      }
      call.end();
    } catch (error) {
      call.emit("error", statusOfError(error, onBug));
    } finally {
      void quietReturn(replies);
    }
  };
}

export function upCall(handler: Up, around: Around) {
  return async (call: ServerReadableStream<In, Out>, reply: sendUnaryData<Out>): Promise<void> => {
    const { method, onBug } = around;
    const received = call[Symbol.asyncIterator]() as AsyncIterator<Received>;
    let narrow = () => {};
    try {
      const first = await orGone(received.next());
      const bytes = first.done ? new Uint8Array() : first.value.bytes;
      const about = await describe(call, bytes, around);
      narrow = around.widen(call.getPeer());
      const answer = await handler(messages(method, first, { received, signal: about.signal }), about);
      reply(null, encode(method.output, answer));
    } catch (error) {
      reply(statusOfError(error, onBug));
    } finally {
      narrow();
      // Frees what was read ahead; the reply was sent, so nobody waits for it.
      call.destroy();
    }
  };
}

/** The request's sender and its message, in this order: bytes of strangers are not decoded. */
async function admit(
  call: ServerUnaryCall<In, Out> | ServerWritableStream<In, Out>,
  { bytes }: In,
  around: Around,
): Promise<{ message: Message; call: Call }> {
  const about = await describe(call, bytes, around);
  return { message: decode(around.method.input, bytes, MAX_MESSAGE_BYTES), call: about };
}

async function describe(call: AnyCall, body: Uint8Array, around: Around): Promise<Call> {
  const { authenticate, method, clientKeys, onKnown } = around;
  const gone = new AbortController();
  call.on("cancelled", () => gone.abort(GONE));
  const [auth] = call.metadata.get(AUTHORIZATION);
  const peer = call.getPeer();
  const peerKey = clientKeys.keyOf(peer);
  const request = { auth: auth?.toString(), method, body, peerKey };
  const caller = await authenticate(request).catch((error: unknown) => {
    if (denialOf(asFault(error)) === null) clientKeys.doubt(peer);
    else clientKeys.deny(peer);
    throw error;
  });
  if (caller) {
    clientKeys.vouch(peer);
    onKnown(peer, caller);
  }
  if (call.cancelled) gone.abort(GONE);
  return { caller, signal: gone.signal, peerKey };
}

/** One message is on its way at a time, so a slow reader holds one in memory and no more. */
async function send(
  call: ServerWritableStream<In, Out>,
  bytes: Uint8Array,
  { signal, around }: { signal: AbortSignal; around: Around },
): Promise<void> {
  await new Promise<void>((resolve) => {
    const watch = around.watchReader(call.getPeer());
    const done = () => {
      watch.stop();
      signal.removeEventListener("abort", done);
      resolve();
    };
    // grpc-js forgets the callback of a write whose client went; the signal comes instead.
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
    else call.write(bytes, done);
  });
}

async function* messages(
  method: DescMethod,
  first: IteratorResult<Received>,
  { received, signal }: { received: AsyncIterator<Received>; signal: AbortSignal },
): AsyncGenerator<Message> {
  for (let next = first; !next.done; next = await orGone(received.next())) {
    // Taken when the handler asks for it, not when it asks for the one after: one is read ahead.
    next.value.take();
    yield decode(method.input, next.value.bytes, MAX_MESSAGE_BYTES);
  }
  // To grpc-js a stream that was cut ends first and is cancelled a turn later: a cut must not look like an
  // end.
  await new Promise((resolve) => setImmediate(resolve));
  if (signal.aborted) throw gone();
}

/** Node says "premature close" of a stream whose client went. */
async function orGone<T>(next: Promise<T>): Promise<T> {
  try {
    return await next;
  } catch {
    throw gone();
  }
}

async function quietReturn(iterator: AsyncIterator<unknown> | undefined): Promise<void> {
  try {
    await iterator?.return?.();
  } catch {
    // It was told to stop; how it stopped is of no interest.
  }
}

/** grpc-js cancels every call as it ends: to make a reason of each, with its stack, would be most of it. */
const GONE = gone();

function gone(): Fault {
  return new Fault("cancelled", "request", { got: "the client went" });
}
