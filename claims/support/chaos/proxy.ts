import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** What a link does to bytes of one direction; it may change while bytes are under way. */
export type Way = {
  /** From the moment that they come until they go on. */
  delayMs?: number;
  /** The most that go on; what comes faster waits, and beyond QUEUE_BYTES the sender does. */
  bytesPerS?: number;
};

export type ProxyOptions = {
  readonly port: number;
  readonly host?: string;
  /** Where it listens; 0, the default, takes a free one. */
  readonly listenPort?: number;
  readonly up?: Way;
  readonly down?: Way;
};

/**
 * How a link breaks. `close`: what the device's side had sent until then arrives, then both ends close.
 * `reset`: both ends are told at once, and what was under way is lost. `silence`: neither end is told, and
 * nothing more goes either way (a half-open connection, once one end gives up).
 */
export type Break = "close" | "reset" | "silence";

/** Bytes of all connections, up (to the server) and down: as they came from the sender, and went on. */
export type Counts = { upTaken: number; upPassed: number; downTaken: number; downPassed: number };

export type Relay = {
  readonly port: number;
  readonly counts: Counts;
  /** Connections that are open. */
  readonly open: number;
  /** The next connections break when so many bytes came up over all of them; the plan is used once. */
  breakAt(upBytes: number, how: Break): void;
  /** Breaks what is open. */
  break(how: Break): void;
  /** While it does, connections are taken and nothing goes on: a black hole. */
  swallow(on: boolean): void;
  close(): Promise<void>;
};

/** What a router in front of a narrow link holds. */
const BUFFER_MS = 10;
/** What waits in the delay line; TCP's own buffers are larger on long links. */
const QUEUE_BYTES = 16 << 20;

/**
 * A link in user space, for machines whose kernel has none to offer: delay, bandwidth and breaks, with every
 * byte counted. TLS goes through it unopened.
 */
export async function openProxy(options: ProxyOptions): Promise<Relay> {
  const { host = "127.0.0.1", port, up = {}, down = {} } = options;
  const counts: Counts = { upTaken: 0, upPassed: 0, downTaken: 0, downPassed: 0 };
  const pairs = new Set<Pair>();
  let plan: { atBytes: number; how: Break } | null = null;
  let swallowing = false;
  const breakAll = (how: Break) => {
    for (const pair of pairs) pair.break(how);
  };
  /** How much of what just came still counts before a planned break. */
  const admitted = (bytes: number): number => {
    const room = plan ? Math.min(bytes, plan.atBytes - counts.upTaken) : bytes;
    counts.upTaken += room;
    return room;
  };
  const server = createServer({ noDelay: true, allowHalfOpen: false }, (device) => {
    const far = connect({ host, port, noDelay: true });
    const pair = new Pair(device, far);
    pairs.add(pair);
    pair.onOver = () => void pairs.delete(pair);
    const upLine = new Line(far, up, (bytes) => {
      counts.upPassed += bytes;
    });
    const downLine = new Line(device, down, (bytes) => {
      counts.downPassed += bytes;
    });
    pair.lines = [upLine, downLine];
    device.on("data", (data) => {
      if (pair.silent || swallowing) return;
      const room = admitted(data.length);
      upLine.push(data.subarray(0, room), device);
      if (plan && counts.upTaken >= plan.atBytes) {
        const { how } = plan;
        plan = null;
        pair.break(how);
      }
    });
    far.on("data", (data) => {
      if (pair.silent || swallowing) return;
      counts.downTaken += data.length;
      downLine.push(data, far);
    });
    device.on("close", () => pair.end(upLine, far));
    far.on("close", () => pair.end(downLine, device));
  });
  const listening = await bind(server, options.listenPort ?? 0);
  return {
    port: listening,
    counts,
    get open() {
      return pairs.size;
    },
    breakAt: (upBytes, how) => {
      plan = { atBytes: counts.upTaken + upBytes, how };
    },
    break: breakAll,
    swallow: (on) => {
      swallowing = on;
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      breakAll("reset");
      await closed;
    },
  };
}

/** Two sockets that are one connection to those who use it. */
class Pair {
  readonly device: Socket;
  readonly far: Socket;
  lines: readonly Line[] = [];
  silent = false;
  onOver = () => {};

  constructor(device: Socket, far: Socket) {
    this.device = device;
    this.far = far;
    // A reset is what this is made to pass on.
    device.on("error", () => {});
    far.on("error", () => {});
  }

  break(how: Break): void {
    if (how === "silence") {
      this.silent = true;
      return;
    }
    if (how === "close") return void this.device.destroy();
    for (const line of this.lines) line.drop();
    this.device.resetAndDestroy();
    this.far.resetAndDestroy();
  }

  /** One end closed: the other does when what was under way to it arrived. */
  end(line: Line, other: Socket): void {
    // Of a silent pair the other end learns nothing: it is half open until it gives up by itself.
    if (!this.silent) line.end(() => other.destroySoon());
    if (this.device.destroyed && this.far.destroyed) this.onOver();
  }
}

/** A direction of a connection: bytes leave it in order, each piece when it is due. */
class Line {
  readonly #to: Socket;
  readonly #way: Way;
  readonly #onPassed: (bytes: number) => void;
  #queue: { readonly dueMs: number; readonly data: Uint8Array }[] = [];
  #queued = 0;
  #freeMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #paused: Socket | null = null;
  #onEmpty: (() => void) | null = null;

  constructor(to: Socket, way: Way, onPassed: (bytes: number) => void) {
    this.#to = to;
    this.#way = way;
    this.#onPassed = onPassed;
    to.on("drain", () => this.#go());
  }

  push(data: Uint8Array, from: Socket): void {
    if (data.length === 0) return;
    const nowMs = performance.now();
    const { delayMs = 0, bytesPerS = Number.POSITIVE_INFINITY } = this.#way;
    // The last byte has crossed the narrow place before the delay begins.
    this.#freeMs = Math.max(this.#freeMs, nowMs) + (data.length / bytesPerS) * 1000;
    this.#queue.push({ dueMs: this.#freeMs + delayMs, data });
    this.#queued += data.length;
    // A narrow link pushes back on its sender, who may be ahead by the delay and a router's small buffer.
    if (this.#queued > Math.min(QUEUE_BYTES, ((delayMs + BUFFER_MS) / 1000) * bytesPerS)) {
      this.#paused = from;
      from.pause();
    }
    this.#go();
  }

  /** Calls back when all that is in it has left. */
  end(onEmpty: () => void): void {
    this.#onEmpty = onEmpty;
    this.#go();
  }

  drop(): void {
    this.#queue = [];
    this.#queued = 0;
  }

  #go(): void {
    if (this.#timer) return;
    for (let next = this.#queue[0]; next; next = this.#queue[0]) {
      if (this.#to.destroyed) this.drop();
      else if (this.#to.writableNeedDrain) return;
      else {
        const waitMs = next.dueMs - performance.now();
        if (waitMs > 0.5) return void this.#later(waitMs);
        this.#queue.shift();
        this.#queued -= next.data.length;
        this.#onPassed(next.data.length);
        this.#paused?.resume();
        this.#paused = null;
        this.#to.write(next.data);
      }
    }
    this.#paused?.resume();
    this.#paused = null;
    this.#onEmpty?.();
    this.#onEmpty = null;
  }

  #later(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#go();
    }, ms);
  }
}

function bind(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}
