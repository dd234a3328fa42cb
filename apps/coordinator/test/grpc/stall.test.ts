import http2 from "node:http2";
import type { ServiceError } from "@grpc/grpc-js";
import { AckSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { ChunkSchema, Federation, FetchRequestSchema } from "@tutti/wire/round";
import { CHUNK_BYTES, pathOf } from "@tutti/wire/rpc";
import { UploadPartSchema } from "@tutti/wire/secagg";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { watchStall } from "../../src/grpc/stall.ts";
import { faultOf, hello, openWorld, same, signed, toBuffer, unary, until, type World } from "./harness.ts";

const { upload, fetch, report } = Federation.method;

// Only intervals are the test's: stalls are looked for by interval, and nothing else here is.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] }));
afterEach(() => void vi.useRealTimers());

describe("docs/reliability.md, Connections: under 1 KB/s for 10 s is cut, within 15 s", () => {
  test.each([
    { name: "nothing at all", perSecond: 0, cut: true },
    { name: "just below the rate", perSecond: 1023, cut: true },
    { name: "just at the rate", perSecond: 1024, cut: false },
  ])("$name", ({ perSecond, cut }) => {
    let bytes = 0;
    let stalledAtS: number | undefined;
    const watch = watchStall(
      () => bytes,
      () => {
        stalledAtS ??= second;
      },
    );
    let second = 0;
    for (; second < 60; second++) {
      bytes += perSecond;
      vi.advanceTimersByTime(1000);
    }
    watch.stop();
    if (cut) expect(stalledAtS).toSatisfy((s: number) => s >= 9 && s < 15);
    else expect(stalledAtS).toBeUndefined();
  });

  test("one slow look between two good ones is forgiven", () => {
    let bytes = 0;
    let stalled = false;
    watchStall(
      () => bytes,
      () => {
        stalled = true;
      },
    );
    for (let look = 0; look < 20; look++) {
      bytes += look % 2 === 0 ? 0 : 100_000;
      vi.advanceTimersByTime(5000);
    }
    expect(stalled).toBe(false);
  });
});

describe("over a connection", () => {
  let world: World;
  afterEach(() => world.close());

  test("a stalled upload ends by name and others go on", async () => {
    let heard = 0;
    let ended: unknown;
    world = await openWorld({
      async upload(parts) {
        try {
          for await (const _part of parts) heard += 1;
        } catch (error) {
          ended = error;
          throw error;
        }
        return create(AckSchema);
      },
    });
    const first = part(10);
    const session = await hello(world);
    const stalled = new Promise<ServiceError | null>((resolve) => {
      const metadata = signed(upload, first, { world, session });
      const call = world.client.makeClientStreamRequest(pathOf(upload), toBuffer, same, metadata, resolve);
      call.on("error", () => {});
      call.write(first);
    });
    await until(() => heard === 1);
    // While enough comes, it may take as long as it likes: here on the same connection.
    for (let look = 0; look < 6; look++) {
      const body = new Uint8Array(10_000);
      await unary(world.client, report, { body, metadata: signed(report, body, { world, session }) }).catch(
        () => {},
      );
      vi.advanceTimersByTime(5000);
    }
    expect(ended).toBeUndefined();
    vi.advanceTimersByTime(15_000);
    expect(faultOf((await stalled)!)).toMatchObject({ code: "deadline", detail: { got: "a stall" } });
    await until(() => ended !== undefined);
    const body = new Uint8Array();
    await unary(world.client, report, { body, metadata: signed(report, body, { world, session }) });
  });

  test("a request that never arrives whole is ended too", async () => {
    world = await openWorld();
    const session = http2.connect(`https://localhost:${world.server.port}`, { ca: world.tls });
    const stream = session.request({
      ":method": "POST",
      ":path": pathOf(report),
      "content-type": "application/grpc",
      te: "trailers",
    });
    const status = new Promise((resolve) =>
      stream.on("response", (headers) => resolve(headers["grpc-status"])),
    );
    // A frame header that promises 100 bytes, and no more.
    stream.write(Buffer.from([0, 0, 0, 0, 100, 1]));
    // The window that the server tells a client at the start.
    const settings = await new Promise<http2.Settings>((resolve) => session.once("remoteSettings", resolve));
    expect(settings.initialWindowSize).toBe(4 << 20);
    expect(settings.maxConcurrentStreams).toBe(100);
    await new Promise((resolve) => setTimeout(resolve, 100));
    vi.advanceTimersByTime(15_000);
    expect(Number(await status)).toBe(4);
    session.destroy();
  });

  test("a reader that stands still is cut; its handler is told", async () => {
    let gone = false;
    world = await openWorld({
      async *fetch(_request, { signal }) {
        signal.addEventListener("abort", () => {
          gone = true;
        });
        for (let sent = 0; sent < 400; sent++)
          yield create(ChunkSchema, { data: new Uint8Array(CHUNK_BYTES) });
      },
    });
    const body = encode(FetchRequestSchema, create(FetchRequestSchema, {}));
    const metadata = signed(fetch, body, { world, session: await hello(world) });
    const stream = world.client.makeServerStreamRequest(pathOf(fetch), toBuffer, same, body, metadata);
    stream.on("error", () => {});
    await new Promise<void>((resolve) => {
      stream.once("data", () => {
        stream.pause();
        resolve();
      });
    });
    // Looks go on while kernel buffers fill; then two in a row see nothing more.
    while (!gone) {
      vi.advanceTimersByTime(5000);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
});

function part(length: number): Uint8Array {
  const value = new Uint8Array(length);
  return encode(UploadPartSchema, create(UploadPartSchema, { part: { case: "chunk", value } }));
}
