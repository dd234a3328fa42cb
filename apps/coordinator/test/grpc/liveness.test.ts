import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { ChannelCredentials, Client } from "@grpc/grpc-js";
import { encode } from "@tutti/wire/message";
import { Federation, ListenRequestSchema } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { afterEach, describe, expect, test } from "vitest";
import { openProxy } from "../../../../claims/support/chaos/proxy.ts";
import { Liveness, LOOK_MS } from "../../src/grpc/liveness.ts";
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
    const awaited = () => {
      asked++;
      return [["ward-3", 1] as const];
    };
    world = await openWorld({ listen: (_request, { signal }) => heldOpen(signal, streams) }, {}, awaited);
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

  /** One connection, and looks at it: as many as are said, so long after one another. */
  function watched(withinMs = 2_000) {
    let [nowMs, busy] = [0, false];
    const line = quietLine();
    const liveness = new Liveness({
      connections: { connectionsOf: () => [line] },
      load: { isBusy: () => busy },
      nowMs: () => nowMs,
      turned: new Turned(),
    });
    const look = (times: number, { eachMs = LOOK_MS, also = () => {} } = {}) => {
      for (let i = 0; i < times; i++) {
        nowMs += eachMs;
        also();
        liveness.look([["ward-3", withinMs]]);
      }
    };
    const setBusy = (is: boolean) => {
      busy = is;
    };
    return { line, look, setBusy };
  }

  /** What went before it was seen first is under way no longer. */
  const DRAINED = (64 << 10) / (8 << 10) / (LOOK_MS / 1000) + 1;

  test("an answer that is late because this process stood still itself is waited for", () => {
    const { line, look } = watched();
    look(DRAINED, { also: () => line.socket.bytesRead++ });
    look(1);
    look(3, { eachMs: 60_000 });
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(1);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });

  test("whoever sends is not asked", () => {
    const { line, look } = watched();
    look(100, { also: () => line.socket.bytesRead++ });
    expect(line).toMatchObject({ pings: 0, cut: 0 });
  });

  test("over a slow link an answer waits behind what was sent to it; 64 KiB take 8 s", () => {
    const { line, look } = watched();
    look(DRAINED, { also: () => line.socket.bytesRead++ });
    line.socket.bytesWritten += 1 << 20;
    look(1);
    look((2_000 + 8_000) / LOOK_MS - 1);
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(1);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });

  test("while a call is in progress the call's own watch counts, and from its end on this one", () => {
    const { line, look, setBusy } = watched();
    setBusy(true);
    look(100);
    expect(line).toMatchObject({ pings: 0, cut: 0 });
    setBusy(false);
    look(1 + 2_000 / LOOK_MS);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });
});

async function* heldOpen(signal: AbortSignal, streams: { begun: number; ended: number }) {
  streams.begun++;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  streams.ended++;
}

/** A connection over which nothing comes, as far as its liveness is seen. */
function quietLine() {
  const line = { pings: 0, cut: 0 };
  const socket = { bytesRead: 0, bytesWritten: 0, destroy: () => line.cut++ };
  const session = { destroyed: false, closed: false, ping: () => line.pings++ };
  return Object.assign(line, {
    socket: socket as unknown as Socket & { bytesRead: number; bytesWritten: number },
    session: session as unknown as ServerHttp2Session,
  });
}
