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

  test("an answer that is late because this process stood still itself is waited for", () => {
    let nowMs = 0;
    const line = quietLine();
    const liveness = new Liveness({ connectionsOf: () => [line], nowMs: () => nowMs, turned: new Turned() });
    const look = (afterMs: number) => {
      nowMs += afterMs;
      liveness.look([["ward-3", 2_000]]);
    };
    for (let i = 0; i < 2; i++) look(LOOK_MS);
    for (let i = 0; i < 3; i++) look(60_000);
    expect(line).toMatchObject({ pings: 1, cut: 0 });
    look(LOOK_MS);
    expect(line).toMatchObject({ pings: 1, cut: 1 });
  });

  test("whoever sends is not asked", () => {
    let nowMs = 0;
    const line = quietLine();
    const liveness = new Liveness({ connectionsOf: () => [line], nowMs: () => nowMs, turned: new Turned() });
    for (let i = 0; i < 100; i++) {
      nowMs += LOOK_MS;
      line.socket.bytesRead += 1;
      liveness.look([["ward-3", 2_000]]);
    }
    expect(line).toMatchObject({ pings: 0, cut: 0 });
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
  const socket = { bytesRead: 0, destroy: () => line.cut++ };
  const session = { destroyed: false, closed: false, ping: () => line.pings++ };
  return Object.assign(line, {
    socket: socket as unknown as Socket & { bytesRead: number },
    session: session as unknown as ServerHttp2Session,
  });
}
