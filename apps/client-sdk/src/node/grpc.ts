import { randomBytes } from "node:crypto";
import { Client, Metadata } from "@grpc/grpc-js";
import type { Clock } from "@tutti/foundation/clock";
import { systemClock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { denialOf } from "@tutti/identity/denial";
import type { SigningKey } from "@tutti/identity/keys";
import { signRequest } from "@tutti/identity/request";
import { AUTHORIZATION, authorization } from "@tutti/wire/authorization";
import { type HelloReply, HelloRequestSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { type DescMethod, type DescService, MAX_MESSAGE_BYTES, pathOf, type Stub } from "@tutti/wire/rpc";
import { Standing } from "@tutti/wire/standing";
import { mustUnderstand, VERSION } from "@tutti/wire/version";
import type { Link } from "../link.ts";
import { down, type Message, unary, up } from "./calls.ts";
import { type PinKeeping, PinnedTls } from "./pins.ts";
import { askAround, isElsewhere, Ring } from "./ring.ts";
import type { TlsIdentity } from "./sign.ts";

export type ConnectOptions = {
  /** "host:port". */
  readonly address: string;
  /** Where further coordinators of the federation are: one of them leads, and is found. */
  readonly addresses?: readonly string[];
  /** PEM of the certificates that this link accepts, and no others. */
  readonly tls: string;
  /** How long a call goes round again while none of several coordinators leads; not at all by default. */
  readonly patienceMs?: number;
  /** The caller's name in its certificate, and its Ed25519 key. */
  readonly name: string;
  readonly key: SigningKey;
  /** What to show where the coordinator asks for a TLS certificate; of the same key. */
  readonly shows?: TlsIdentity;
  /** How it takes up another TLS certificate of the coordinator; absent: it never does. */
  readonly pins?: PinKeeping;
  readonly clock?: Clock;
  /** Told of each greeting. */
  readonly onHello?: (reply: HelloReply) => void;
};

/** The coordinator over gRPC, as a device calls it. Nothing is sent before the first call. */
export function connect(options: ConnectOptions): Link {
  const channel = new Channel(options);
  return {
    ...stubOf(Federation, channel),
    standing: stubOf(Standing, channel),
    pins: channel.pins,
    close: () => channel.ring.close(),
  };
}

/** Any service of the coordinator, such as Admin with an owner's key: same pinning, same signatures. */
export function connectService<S extends DescService>(
  service: S,
  options: ConnectOptions,
): Stub<S> & { close(): void } {
  const channel = new Channel(options);
  return { ...stubOf(service, channel), close: () => channel.ring.close() };
}

/** A request is good for this long after it is signed; the server allows at most five minutes. */
const AUTH_LIFE_MS = 60_000;
/** These come before there is a session or a name, and carry no signature. */
const OPEN = new Set(["Hello", "Enroll", "Renew", "TlsCertificates"]);

/**
 * docs/reliability.md, Connections: bounded messages, keepalive, and a reconnect no slower than the device's
 * own backoff.
 */
const CHANNEL = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 5_000,
  "grpc.use_local_subchannel_pool": 1,
  // Counts every call for nobody.
  "grpc.enable_channelz": 0,
  // An address may be an IP, which TLS does not take for a name (RFC 6066, section 3); what is pinned is
  // the key.
  "grpc.ssl_target_name_override": "tutti",
} as const;

/**
 * Where another coordinator may lead, one that stopped answering is noticed well within the time that a round
 * waits for its devices (docs/reliability.md, Replicas).
 */
const ONE_OF_SEVERAL = {
  ...CHANNEL,
  "grpc.keepalive_time_ms": 4_000,
  "grpc.keepalive_timeout_ms": 2_000,
  "grpc.max_reconnect_backoff_ms": 1_000,
} as const;
const HELLO_MS = 3_000;

/** A TLS connection to whichever coordinator leads, and the session that signatures over it name. */
class Channel {
  readonly ring: Ring;
  readonly pins: PinnedTls;
  /** The coordinator's wall clock minus ours, as Hello told it. */
  #offsetMs = 0;
  readonly #options: ConnectOptions;
  readonly #clock: Clock;
  session: Promise<HelloReply> | null = null;

  constructor(options: ConnectOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock();
    const { address, addresses = [], tls, shows } = options;
    this.pins = new PinnedTls(tls, options.pins);
    const settings = addresses.length > 0 ? ONE_OF_SEVERAL : CHANNEL;
    this.ring = new Ring(
      [address, ...addresses],
      (at) => new Client(at, this.pins.credentials(shows), settings),
    );
  }

  /** Opens a new session; later requests are signed for it. */
  greet(signal?: AbortSignal): Promise<HelloReply> {
    const greeting = this.#hello(signal);
    this.session = greeting;
    greeting.catch(() => this.forget(greeting));
    return greeting;
  }

  async #hello(signal: AbortSignal | undefined): Promise<HelloReply> {
    const method = Federation.method.hello;
    const body = encode(HelloRequestSchema, create(HelloRequestSchema, { version: VERSION }));
    const deadlineMs = this.ring.size > 1 ? HELLO_MS : undefined;
    const { patienceMs = 0 } = this.#options;
    // Connections that are in use go on; this is where a new one begins.
    if (this.pins.isStale) this.ring.renew();
    const { client } = this;
    const ask = (client: Client) =>
      unary({ client, method, metadata: new Metadata(), signal, deadlineMs }, body);
    const reply = await askAround(ask, {
      ring: this.ring,
      clock: this.#clock,
      signal,
      patienceMs,
      repinned: (address) => this.#repinned(address, signal),
    }).catch((error: unknown) => {
      // gRPC waits before it dials again, by a clock of its own; whoever greets has waited already.
      if (this.ring.size === 1 && this.client === client && isElsewhere(error)) this.ring.renew();
      throw error;
    });
    mustUnderstand("the coordinator", reply.version);
    this.#offsetMs = reply.nowMs - this.#clock.wallMs();
    this.#options.onHello?.(reply);
    return reply;
  }

  /** A coordinator with a certificate that is not pinned says which are its own. */
  #repinned(address: string, signal: AbortSignal | undefined): Promise<boolean> {
    const { shows } = this.#options;
    const nowS = Math.floor(this.#clock.wallMs() / 1000);
    return this.pins.ask(address, { nowS, shows, signal });
  }

  get client(): Client {
    return this.ring.client;
  }

  forget(session = this.session): void {
    if (this.session === session) this.session = null;
  }

  /** Metadata with the caller's signature over method, first message, session, nonce and expiry. */
  async authorise(method: DescMethod, body: Uint8Array): Promise<Metadata> {
    const metadata = new Metadata();
    if (OPEN.has(method.name)) {
      // Nothing is signed, but of several only the one that leads takes it.
      if (this.ring.size > 1) await (this.session ?? this.greet());
      return metadata;
    }
    const { session } = await (this.session ?? this.greet());
    const { key, name } = this.#options;
    const auth = signRequest(key, {
      name,
      session,
      method: pathOf(method),
      bodyHash: sha256(body),
      nonce: new Uint8Array(randomBytes(16)),
      expiresMs: Math.floor(this.#clock.wallMs() + this.#offsetMs + AUTH_LIFE_MS),
    });
    metadata.set(AUTHORIZATION, authorization(auth));
    return metadata;
  }

  /** One of several that does not answer is left: whoever tries again first greets whichever leads. */
  left(
    error: unknown,
    { session, client }: { session: Promise<HelloReply> | null; client: Client },
  ): boolean {
    if (this.ring.size === 1 || !isElsewhere(error)) return false;
    this.forget(session);
    this.ring.leave(client);
    return true;
  }

  /** A coordinator that restarted knows no session of before: greeted anew, once, it is asked again. */
  async resumed<T>(call: () => Promise<T>): Promise<T> {
    const before = this.session;
    const { client } = this;
    try {
      return await call();
    } catch (error) {
      const { patienceMs = 0 } = this.#options;
      // Whoever has no patience of his own waits here for the one that leads next.
      if (this.left(error, { session: before, client }) && patienceMs > 0) return await call();
      const fault = asFault(error);
      // Who is denied is denied in every session.
      if (fault.code !== "refused" || before === null || denialOf(fault) !== null) throw error;
      this.forget(before);
      return await call();
    }
  }
}

function stubOf<S extends DescService>(service: S, channel: Channel): Stub<S> {
  const calls = service.methods.map((method) => [method.localName, callOf(method, channel)] as const);
  // Each function is made from its own method's descriptor, which is what Stub<S> says of it.
  return Object.fromEntries(calls) as unknown as Stub<S>;
}

function callOf(method: DescMethod, channel: Channel): unknown {
  switch (method.methodKind) {
    case "unary":
      return (request: Message, signal?: AbortSignal) => ask(channel, { method, signal }, request);
    case "server_streaming":
      return (request: Message, signal?: AbortSignal) => hear(channel, { method, signal }, request);
    case "client_streaming":
      return (requests: AsyncIterable<Message>, signal?: AbortSignal) =>
        tell(channel, { method, signal }, requests);
    default:
      throw new Fault("unsupported", pathOf(method), { got: method.methodKind });
  }
}

type Called = { readonly method: DescMethod; readonly signal: AbortSignal | undefined };

async function ask(channel: Channel, { method, signal }: Called, request: Message): Promise<Message> {
  if (method.name === "Hello") return await channel.greet(signal);
  const body = encode(method.input, request);
  return await channel.resumed(async () => {
    const metadata = await channel.authorise(method, body);
    return await unary({ client: channel.client, method, metadata, signal }, body);
  });
}

/** A stream that is refused before its first message is tried again in a new session. */
async function* hear(
  channel: Channel,
  { method, signal }: Called,
  request: Message,
): AsyncGenerator<Message> {
  const body = encode(method.input, request);
  const { stream, first } = await channel.resumed(async () => {
    const metadata = await channel.authorise(method, body);
    const stream = down({ client: channel.client, method, metadata, signal }, body);
    return { stream, first: await stream.next() };
  });
  if (first.done) return;
  const { session, client } = channel;
  try {
    yield first.value;
    yield* stream;
  } catch (error) {
    channel.left(error, { session, client });
    throw error;
  } finally {
    await stream.return(undefined);
  }
}

/** The signature covers the first message. Only requests that can be walked again are sent again. */
async function tell(channel: Channel, called: Called, requests: AsyncIterable<Message>): Promise<Message> {
  const once = Object.is(requests[Symbol.asyncIterator](), requests);
  return once
    ? await tellOnce(channel, called, requests)
    : await channel.resumed(() => tellOnce(channel, called, requests));
}

async function tellOnce(
  channel: Channel,
  { method, signal }: Called,
  requests: AsyncIterable<Message>,
): Promise<Message> {
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  const head = first.done ? new Uint8Array() : encode(method.input, first.value);
  const metadata = await channel.authorise(method, head);
  return await up({ client: channel.client, method, metadata, signal }, head, messages);
}
