import { connect, createServer, type ServerHttp2Session } from "node:http2";
import {
  type AddressInfo,
  connect as connectTo,
  createServer as createRelay,
  type Server as Relay,
  type Socket,
} from "node:net";
import { ChannelCredentials, Client } from "@grpc/grpc-js";
import { encode } from "@tutti/wire/message";
import { Federation, ListenRequestSchema } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { afterEach, describe, expect, test } from "vitest";
import { openProxy } from "../../../../claims/support/chaos/proxy.ts";
import { Liveness } from "../../src/grpc/liveness.ts";
import { LOOK_MS, MEASURED_BYTES } from "../../src/grpc/throughput.ts";
import { Turned } from "../../src/grpc/turned.ts";
import { hello, openWorld, signed, toBuffer, until, type World } from "./harness.ts";

let world: World | undefined;
afterEach(async () => {
  await world?.close();
  world = undefined;
});

describe("devices that rounds wait for", () => {
  test("one whose link fell silent is cut, and its stream ends; one that is quiet is not", async () => {
    const streams = { begun: 0, ended: 0 };
    let asked = 0;
    const serving = () => {
      asked++;
      return [["ward-3", 1] as const];
    };
    world = await openWorld({ listen: (_request, { signal }) => heldOpen(signal, streams) }, {}, serving);
    const proxy = await openProxy({ port: world.server.port });
    const credentials = ChannelCredentials.createSsl(Buffer.from(world.tls));
    const client = new Client(`localhost:${proxy.port}`, credentials, {
      "grpc.use_local_subchannel_pool": 1,
    });
    try {
      const body = new Uint8Array(encode(ListenRequestSchema, { $typeName: "tutti.v1.ListenRequest" }));
      const { listen } = Federation.method;
      const metadata = signed(listen, body, { world, session: await hello(world) });
      client
        .makeServerStreamRequest(pathOf(listen), toBuffer, (bytes) => bytes, body, metadata)
        .on("error", () => {})
        .resume();
      await until(() => streams.begun === 1);
      // Looks enough for several PINGs, each answered within one.
      const before = { asked, came: proxy.counts.upPassed };
      await until(() => asked >= before.asked + 8);
      expect(proxy.counts.upPassed).toBeGreaterThan(before.came);
      expect(streams.ended).toBe(0);
      expect(world.server.held().turned.get("unresponsive")).toBeUndefined();
      proxy.break("silence");
      await until(() => streams.ended === 1);
      expect(world.server.held().turned.get("unresponsive")).toBe(1);
    } finally {
      client.close();
      await proxy.close();
    }
  });

  test("a real PING overtakes what HTTP/2 holds back, and nothing that the socket was given", async () => {
    const server = createServer();
    const came: Buffer[] = [];
    let socket: Socket | undefined;
    server.on("connection", (one) => {
      socket = one;
    });
    const behind = new Promise<number>((resolve) => {
      server.on("stream", (stream) => {
        stream.respond();
        stream.write(Buffer.alloc(20_000), () => {
          stream.write(Buffer.alloc(30_000));
          const written = socket?.bytesWritten ?? 0;
          stream.session?.ping(() => resolve(written));
        });
      });
    });
    const port = await boundTo(server);
    const relay = createRelay((near) => {
      const far = connectTo(port, "127.0.0.1").on("data", (data) => came.push(data));
      near.pipe(far).pipe(near);
    });
    const client = connect(`http://127.0.0.1:${await boundTo(relay)}`);
    try {
      client.request().resume();
      const at = await behind;
      expect(at).toBeGreaterThan(20_000);
      expect(at).toBeLessThan(30_000);
      // A frame's fourth byte is its type; 6 is PING (RFC 9113, section 6.7).
      expect(Buffer.concat(came)[at + 3]).toBe(6);
    } finally {
      client.destroy();
      relay.close();
      server.close();
    }
  });

  const KEPT = { cut: 0 };
  const FAST = 1_000_000;
  const BACKLOG = 64 << 10;

  test("an answer that is late because this process stood still itself is waited for", () => {
    const { line, look } = watched({ withinMs: 4 * LOOK_MS });
    line.stop();
    look(2);
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(3, { eachMs: 60_000 });
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(1);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });

  test("whoever sends, and is sent nothing, is not asked", () => {
    const { line, look } = watched();
    look(100, { also: () => line.socket.bytesRead++ });
    expect(line).toMatchObject({ pings: 0, cut: 0 });
  });

  test("an honest device behind 64 KiB at 10 KB/s is kept, time and again", () => {
    const { line, look } = watched({ bytesPerS: 10_000 });
    look(4);
    for (let times = 0; times < 5; times++) {
      line.send(BACKLOG);
      look(30);
    }
    expect(line).toMatchObject(KEPT);
  });

  test("over a link that was not measured 64 KiB take 8 s, and no more", () => {
    for (const seenBefore of [false, true]) {
      const { line, look } = watched({ withinMs: 2_000 });
      // It answers the PING that goes to whoever is quiet.
      if (seenBefore) look(3);
      line.stop();
      line.send(1 << 20);
      look(1);
      look((2_000 + 8_000) / LOOK_MS - 1);
      expect(line).toMatchObject({ pings: seenBefore ? 2 : 1, cut: 0 });
      look(1);
      expect(line.cut).toBe(1);
    }
  });

  test("over a link that carried 64 KiB between two looks they take half a second", () => {
    const { line, look } = watched({ withinMs: 2_000, bytesPerS: 10_000 });
    // Before the last three times it was slow; and while it was sent nothing it carried nothing.
    line.send(BACKLOG);
    look(40);
    line.bytesPerS = FAST;
    for (let times = 0; times < 3; times++) {
      look(100, { also: () => line.socket.bytesRead++ });
      line.send(BACKLOG);
      look(2);
    }
    // PINGs with nothing before them tell of no link.
    look(12);
    line.pass(100);
    line.stop();
    line.send(BACKLOG);
    look(1);
    look((2_000 + 500) / LOOK_MS);
    expect(line).toMatchObject(KEPT);
    look(1);
    expect(line.cut).toBe(1);
  });

  test("what an answer confirmed is not under way any more, however slow the link", () => {
    const { line, look } = watched({ withinMs: 2_000, bytesPerS: 10_000 });
    line.send(BACKLOG);
    look(40);
    line.stop();
    look(1 + 1 + 2_000 / LOOK_MS + 1);
    expect(line.cut).toBe(1);
  });

  test("a request has what was written before it confirmed at once; of strangers nothing is asked", () => {
    const { line, look, liveness } = watched({ withinMs: 2_000, bytesPerS: FAST });
    line.send(BACKLOG);
    liveness.asked("ward-3");
    expect(line.pings).toBe(0);
    look(2);
    line.send(BACKLOG);
    liveness.asked("ward-3");
    line.pass(100);
    line.stop();
    look(1 + 1 + 2_000 / LOOK_MS + 1);
    expect(line.cut).toBe(1);
  });

  test("requests that were sent little since have nothing confirmed of their own", () => {
    const { line, look, liveness } = watched({ bytesPerS: FAST });
    look(2);
    line.pass(100);
    const { pings } = line;
    line.send(MEASURED_BYTES / 2);
    liveness.asked("ward-3");
    expect(line.pings).toBe(pings);
    line.send(MEASURED_BYTES / 2);
    liveness.asked("ward-3");
    expect(line.pings).toBe(pings + 1);
  });

  test("a link counts as the slowest of three measurements", () => {
    const { line, look } = watched({ bytesPerS: FAST });
    look(2);
    const burst = (bytesPerS: number, bytes = BACKLOG) => {
      line.bytesPerS = bytesPerS;
      line.send(bytes);
      look(40);
    };
    for (let times = 0; times < 3; times++) burst(FAST);
    burst(10_000, 8 << 10);
    burst(10_000);
    burst(FAST);
    burst(FAST);
    burst(10_000);
    expect(line).toMatchObject(KEPT);
  });

  test("a throttled link that lets a few kilobytes through at once is not taken for a fast one", () => {
    const { line, look } = watched({ bytesPerS: FAST });
    for (let times = 0; times < 5; times++) {
      look(4);
      line.send(8 << 10);
    }
    look(4);
    line.bytesPerS = 10_000;
    line.send(BACKLOG);
    look(40);
    expect(line).toMatchObject(KEPT);
  });

  test("a small answer that is late tells of a link that became slow", () => {
    const { line, look } = watched({ bytesPerS: FAST });
    look(2);
    line.send(BACKLOG);
    look(4);
    line.bytesPerS = 2_000;
    line.send(1_100);
    look(8);
    line.bytesPerS = 10_000;
    line.send(BACKLOG);
    look(40);
    expect(line).toMatchObject(KEPT);
  });

  test("whatever comes restarts a device's time, though a PING is unanswered", () => {
    const { line, look } = watched({ withinMs: 2_000 });
    look(1);
    line.stop();
    look(1 + 2_000 / LOOK_MS - 1);
    look(1, { also: () => line.socket.bytesRead++ });
    look(2_000 / LOOK_MS - 1);
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(1);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });

  test("one that cannot say how soon it answers is measured and never cut", () => {
    const { line, look } = watched({ withinMs: 0 });
    look(10);
    expect(line.pings).toBe(0);
    line.send(BACKLOG);
    line.stop();
    look(1_000);
    expect(line).toMatchObject({ pings: 1, cut: 0 });
  });

  test("a PING that could not be sent confirms nothing, is not waited for, and is sent again", () => {
    const { line, look } = watched({ withinMs: 2_000, bytesPerS: FAST });
    line.refuses = true;
    line.send(BACKLOG);
    look(100);
    expect(line).toMatchObject({ pings: 100, cut: 0 });
    line.refuses = false;
    line.stop();
    look(1 + (2_000 + 8_000) / LOOK_MS - 1);
    expect(line).toMatchObject({ pings: 101, cut: 0 });
    look(1);
    expect(line.cut).toBe(1);
  });

  test("while a call is in progress the call's own watch counts, and from its end on this one", () => {
    const { line, look, setBusy } = watched({ withinMs: 2_000 });
    line.stop();
    setBusy(true);
    look(100);
    expect(line).toMatchObject({ pings: 0, cut: 0 });
    setBusy(false);
    look(1 + 2_000 / LOOK_MS);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });
});

/** One connection, and looks at it: as many as are said, so long after one another. */
function watched({ withinMs = 1_500, bytesPerS = FAR_TOO_FAST } = {}) {
  let busy = false;
  const line = new Line(bytesPerS);
  const liveness = new Liveness({
    connections: { connectionsOf: () => [line] },
    load: { isBusy: () => busy },
    nowMs: () => line.nowMs,
    turned: new Turned(),
  });
  const look = (times: number, { eachMs = LOOK_MS, also = () => {} } = {}) => {
    for (let i = 0; i < times; i++) {
      line.pass(eachMs);
      also();
      liveness.look([["ward-3", withinMs]]);
    }
  };
  const setBusy = (is: boolean) => {
    busy = is;
  };
  return { line, look, liveness, setBusy };
}

async function boundTo(server: Relay): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

async function* heldOpen(signal: AbortSignal, streams: { begun: number; ended: number }) {
  streams.begun++;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  streams.ended++;
}

const FAR_TOO_FAST = 1e9;
const TICK_MS = 10;
/** A PING inside a TLS record. */
const PING_BYTES = 39;

/** A link of so many bytes a second to a device that answers PINGs and says nothing else; its own clock. */
class Line {
  pings = 0;
  cut = 0;
  nowMs = 0;
  bytesPerS: number;
  refuses = false;
  #arrived = 0;
  #stopped = false;
  #waiting: { readonly upTo: number; readonly answer: () => void }[] = [];
  readonly socket: Socket & { bytesRead: number; bytesWritten: number };
  readonly session: ServerHttp2Session;

  constructor(bytesPerS: number) {
    this.bytesPerS = bytesPerS;
    const destroy = () => {
      this.cut++;
      Object.assign(this.session, { destroyed: true });
    };
    const socket = { bytesRead: 0, bytesWritten: 0, destroy };
    this.socket = socket as unknown as Line["socket"];
    const ping = (told: (error: Error | null) => void) => {
      this.pings++;
      if (this.refuses) return told(new Error("too many PINGs"));
      this.send(PING_BYTES);
      this.#waiting.push({ upTo: socket.bytesWritten, answer: () => told(null) });
    };
    this.session = { destroyed: false, closed: false, ping } as unknown as ServerHttp2Session;
  }

  send(bytes: number): void {
    this.socket.bytesWritten += bytes;
  }

  stop(): void {
    this.#stopped = true;
  }

  pass(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.#answer()) {
      const passedMs = Math.min(TICK_MS, endMs - this.nowMs);
      this.nowMs += passedMs;
      const most = this.#arrived + (this.bytesPerS * passedMs) / 1000;
      this.#arrived = Math.min(most, this.socket.bytesWritten);
    }
  }

  #answer(): void {
    if (this.#stopped) return;
    for (let next = this.#waiting[0]; next && next.upTo <= this.#arrived; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.socket.bytesRead += PING_BYTES;
      next.answer();
    }
  }
}
