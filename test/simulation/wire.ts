import { asFault, Fault } from "@tutti/foundation/fault";
import { type DescMessage, decode, encode, type MessageShape } from "@tutti/wire/message";
import type { Caller, DescMethod, DescService, Stub } from "@tutti/wire/rpc";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import { faultBytes, faultFromGrpc, grpcCodeOf } from "@tutti/wire/status";
import { type Life, never } from "./life.ts";
import type { Call, Network } from "./network.ts";

export type Message = MessageShape<DescMessage>;

/** A coordinator's process as the network finds it; null while none runs. */
export type Server = {
  readonly life: Life;
  /** Handlers by method name ("tutti.v1.Federation/Hello"). */
  handler(method: DescMethod): (...args: never[]) => unknown;
  /** @throws Fault("refused") as the real door does. */
  admit(name: string, method: DescMethod): Promise<Caller | null>;
};

/** What whoever watches is told; each is called in the moment that it happens. */
export type Ears = {
  /** A request leaves a client. */
  sent(from: string, method: DescMethod, message: Message): void;
  /** A handler answered without a Fault: what it acknowledges must hold from now on. */
  answered(from: string, method: DescMethod, about: { request: Message; life: Life }): void;
  /** A word leaves the coordinator. */
  told(to: string, method: DescMethod, about: { word: Message; life: Life }): void;
  /** A call ended with a Fault of the coordinator's. */
  refused(from: string, method: DescMethod, fault: Fault): void;
  /** A device's stream of words begins and ends, as the coordinator sees it. */
  listening(device: string, here: boolean, life: Life): void;
};

export type WireOptions = {
  readonly life: Life;
  readonly name: string;
  readonly network: Network;
  readonly server: () => Server | null;
  readonly ears: Ears;
};

/** As apps/client-sdk/src/node/calls.ts has them. */
const UNARY_MS = 20_000;
const TRANSFER_MS = 600_000;

/** A service over the simulated network, in the shape that the SDK calls it by. */
export function wireTo<S extends DescService>(service: S, options: WireOptions): Stub<S> {
  const wire = new Wire(options);
  const calls = service.methods.map((method) => [method.localName, wire.callOf(method)] as const);
  return Object.fromEntries(calls) as unknown as Stub<S>;
}

class Wire {
  readonly #o: WireOptions;

  constructor(options: WireOptions) {
    this.#o = options;
  }

  callOf(method: DescMethod): unknown {
    switch (method.methodKind) {
      case "unary":
        return (request: Message, signal?: AbortSignal) => this.#unary(method, request, signal);
      case "server_streaming":
        return (request: Message, signal?: AbortSignal) => this.#down(method, request, signal);
      case "client_streaming":
        return (parts: AsyncIterable<Message>, signal?: AbortSignal) => this.#up(method, parts, signal);
      default:
        throw new Fault("unsupported", method.name);
    }
  }

  #unary(method: DescMethod, request: Message, signal?: AbortSignal): Promise<Message> {
    const bytes = encode(method.input, request);
    this.#o.ears.sent(this.#o.name, method, request);
    return new Promise((resolve, reject) => {
      const call = this.#open(UNARY_MS, { signal, reject });
      this.#send(call, () =>
        this.#atServer(call, (server) => this.#serve(call, server, { method, bytes, resolve })),
      );
      this.#again(method, (server) => void this.#serveOnce(server, method, bytes).catch(() => {}));
    });
  }

  /** The handler's answer goes back unless the coordinator dies before it is sent. */
  #serve(
    call: Call,
    server: Server,
    { method, bytes, resolve }: { method: DescMethod; bytes: Uint8Array; resolve: (reply: Message) => void },
  ): void {
    call.server = server.life;
    this.#serveOnce(server, method, bytes, call.stop.signal).then(
      (reply) => {
        const back = encode(method.output, reply);
        this.#back(call, server, () => this.#finish(call, () => resolve(read(method.output, back))));
      },
      (error) => this.#back(call, server, () => call.fail(travelled(error))),
    );
  }

  async #serveOnce(
    server: Server,
    method: DescMethod,
    bytes: Uint8Array,
    signal = new AbortController().signal,
  ): Promise<Message> {
    const { name, ears } = this.#o;
    const request = read(method.input, bytes);
    try {
      const caller = await server.admit(name, method);
      const handler = server.handler(method) as (...args: unknown[]) => Promise<Message>;
      const reply = await handler(request, { caller, signal });
      if (server.life.dead) return await never<Message>();
      ears.answered(name, method, { request, life: server.life });
      return reply;
    } catch (error) {
      if (!server.life.dead) ears.refused(name, method, asFault(error));
      throw error;
    }
  }

  async *#down(method: DescMethod, request: Message, signal?: AbortSignal): AsyncGenerator<Message> {
    const bytes = encode(method.input, request);
    this.#o.ears.sent(this.#o.name, method, request);
    const queue: (Message | Fault | null)[] = [];
    let wake = () => {};
    const put = (item: Message | Fault | null) => {
      queue.push(item);
      wake();
    };
    const longMs = method.name === "Fetch" ? TRANSFER_MS : Number.POSITIVE_INFINITY;
    const call = this.#open(longMs, { signal, reject: put as (fault: Fault) => void });
    this.#send(call, () =>
      this.#atServer(call, (server) => void this.#pump(call, server, { method, bytes, put })),
    );
    try {
      for (;;) {
        const item = queue.shift();
        if (item === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else if (item === null) return;
        else if (item instanceof Fault) throw item;
        else yield item;
      }
    } finally {
      if (!call.over) this.#giveUp(call);
    }
  }

  /** Words in their order; the next one is asked for when the one before is on its way. */
  async #pump(
    call: Call,
    server: Server,
    about: { method: DescMethod; bytes: Uint8Array; put: (item: Message | Fault | null) => void },
  ): Promise<void> {
    const { name, ears } = this.#o;
    const { method, bytes, put } = about;
    call.server = server.life;
    let notBeforeMs = 0;
    let begun = false;
    try {
      const caller = await server.admit(name, method);
      const handler = server.handler(method) as (...args: unknown[]) => AsyncIterable<Message>;
      begun = method.name === "Listen";
      if (begun) ears.listening(name, true, server.life);
      for await (const item of handler(read(method.input, bytes), { caller, signal: call.stop.signal })) {
        if (server.life.dieIfDue() || call.stop.signal.aborted) return;
        ears.told(name, method, { word: item, life: server.life });
        const sent = encode(method.output, item);
        const deliver = () => put(read(method.output, sent));
        notBeforeMs = this.#carryBack(call, { deliver, notBeforeMs }) ?? notBeforeMs;
        await server.life.clock.sleep(1);
      }
      this.#carryBack(call, { notBeforeMs, deliver: () => this.#finish(call, () => put(null)) });
    } catch (error) {
      ears.refused(name, method, asFault(error));
      this.#carryBack(call, { notBeforeMs, deliver: () => call.fail(travelled(error)) });
    } finally {
      if (begun && !server.life.dead) ears.listening(name, false, server.life);
    }
  }

  #up(method: DescMethod, parts: AsyncIterable<Message>, signal?: AbortSignal): Promise<Message> {
    return new Promise((resolve, reject) => {
      const call = this.#open(TRANSFER_MS, { signal, reject });
      const inbox = new Inbox(call.stop.signal);
      void this.#sendParts(call, { method, parts, inbox, resolve }).catch(reject);
    });
  }

  async #sendParts(
    call: Call,
    about: {
      method: DescMethod;
      parts: AsyncIterable<Message>;
      inbox: Inbox;
      resolve: (reply: Message) => void;
    },
  ): Promise<void> {
    const { method, parts, inbox, resolve } = about;
    const { name, ears } = this.#o;
    const sent: Uint8Array[] = [];
    let notBeforeMs = 0;
    const first = () =>
      this.#atServer(call, (server) => this.#serveUp(call, server, { method, inbox, resolve }));
    for await (const part of parts) {
      const bytes = encode(method.input, part);
      ears.sent(name, method, part);
      const begins = sent.push(bytes) === 1;
      const deliver = () => {
        inbox.put(read(method.input, bytes));
        if (begins) first();
      };
      notBeforeMs = (this.#send(call, deliver, notBeforeMs) ?? notBeforeMs) + 0.001;
    }
    this.#send(call, () => inbox.put(null), notBeforeMs);
    this.#again(method, (server) => void this.#replay(server, method, sent).catch(() => {}));
  }

  #serveUp(
    call: Call,
    server: Server,
    about: { method: DescMethod; inbox: Inbox; resolve: (reply: Message) => void },
  ): void {
    call.server = server.life;
    const { method, inbox, resolve } = about;
    this.#takeParts(server, { method, inbox, signal: call.stop.signal }).then(
      (reply) => {
        const back = encode(method.output, reply);
        this.#back(call, server, () => this.#finish(call, () => resolve(read(method.output, back))));
      },
      (error) => this.#back(call, server, () => call.fail(travelled(error))),
    );
  }

  /** All of an upload once more, as a whole. */
  async #replay(server: Server, method: DescMethod, sent: readonly Uint8Array[]): Promise<void> {
    const stop = new AbortController();
    const inbox = new Inbox(stop.signal);
    for (const bytes of sent) inbox.put(read(method.input, bytes));
    inbox.put(null);
    await this.#takeParts(server, { method, inbox, signal: stop.signal });
  }

  async #takeParts(
    server: Server,
    { method, inbox, signal }: { method: DescMethod; inbox: Inbox; signal: AbortSignal },
  ): Promise<Message> {
    const { name, ears } = this.#o;
    try {
      const caller = await server.admit(name, method);
      const handler = server.handler(method) as (...args: unknown[]) => Promise<Message>;
      const reply = await handler(inbox, { caller, signal });
      if (server.life.dead) return await never<Message>();
      ears.answered(name, method, { request: inbox.first!, life: server.life });
      return reply;
    } catch (error) {
      if (!server.life.dead) ears.refused(name, method, asFault(error));
      throw error;
    }
  }

  #open(
    ms: number,
    { signal, reject }: { signal: AbortSignal | undefined; reject: (fault: Fault) => void },
  ): Call {
    const { life, name, network } = this.#o;
    const leave = () => this.#giveUp(call, new Fault("cancelled", "call", { cause: signal?.reason }));
    const call: Call = {
      device: name,
      client: life,
      server: null,
      stop: new AbortController(),
      over: false,
      broken: false,
      fail: (fault) => this.#finish(call, () => reject(fault)),
      left: () => signal?.removeEventListener("abort", leave),
    };
    network.calls.add(call);
    if (signal?.aborted) life.later(0, leave);
    else signal?.addEventListener("abort", leave, { once: true });
    if (Number.isFinite(ms)) life.later(ms, () => this.#giveUp(call, new Fault("deadline", "call")));
    return call;
  }

  /** The client leaves a call; the server hears of it later. */
  #giveUp(call: Call, because: Fault = new Fault("cancelled", "call")): void {
    if (call.over) return;
    call.fail(because);
    const { server, stop } = call;
    server?.later(5, () => stop.abort(new Fault("cancelled", "call", { got: "its caller's leave" })));
  }

  #finish(call: Call, tell: () => void): void {
    if (call.over) return;
    call.over = true;
    this.#o.network.calls.delete(call);
    call.left();
    tell();
  }

  #send(call: Call, deliver: () => void, notBeforeMs?: number): number | null {
    const { network, server } = this.#o;
    const to = () => {
      const life = call.server ?? call.bound ?? server()?.life ?? null;
      // What follows of a stream goes where it began, though another process serves by then.
      if (notBeforeMs !== undefined) call.bound = life;
      return life;
    };
    return network.carry(call, { to, deliver, ...(notBeforeMs !== undefined && { notBeforeMs }) });
  }

  /** Whoever serves in the moment that it arrives: the process it was meant for may serve no more. */
  #atServer(call: Call, serve: (server: Server) => void): void {
    const server = this.#o.server();
    if (server) serve(server);
    else this.#o.network.break(call);
  }

  /** The network may hold a copy of a request and deliver it once more, to whoever serves then. */
  #again(method: DescMethod, serve: (server: Server) => void): void {
    const { network, server, name } = this.#o;
    network.repeat(`${name} ${method.localName}`, () => {
      const now = server();
      if (now) now.life.later(0, () => serve(now));
    });
  }

  /** An answer is an effect: the coordinator may die before it. */
  #back(call: Call, server: Server, deliver: () => void): void {
    if (!server.life.dieIfDue()) this.#carryBack(call, { deliver });
  }

  #carryBack(call: Call, message: { deliver: () => void; notBeforeMs?: number }): number | null {
    const { life, network } = this.#o;
    return network.carry(call, { ...message, to: () => life, back: true });
  }
}

/** What a server reads of a stream that comes up to it. */
class Inbox implements AsyncIterable<Message> {
  first: Message | null = null;
  readonly #queue: (Message | null)[] = [];
  readonly #signal: AbortSignal;
  #wake = () => {};

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
  }

  put(item: Message | null): void {
    this.first ??= item;
    this.#queue.push(item);
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message> {
    for (;;) {
      const item = this.#queue.shift();
      if (item) yield item;
      else if (item === null) return;
      else if (this.#signal.aborted) throw new Fault("cancelled", "stream", { got: "a lost connection" });
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

/** A message as it arrives: bytes, decoded anew, so that nothing is shared. */
function read(schema: DescMessage, bytes: Uint8Array): Message {
  return decode(schema, bytes.slice(), 4 * MAX_MESSAGE_BYTES);
}

/** A Fault as it travels: storage says "ask again", and a bug says nothing (grpc/faults.ts). */
function travelled(error: unknown): Fault {
  const fault = asFault(error);
  const told =
    fault.code === "storage" ? new Fault("unavailable", "storage", { todo: "Send it again" }) : fault;
  return faultFromGrpc({ code: grpcCodeOf(told.code), details: told.message, fault: faultBytes(told) });
}
