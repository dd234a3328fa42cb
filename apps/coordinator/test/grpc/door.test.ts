import http2, { type ClientHttp2Session } from "node:http2";
import { duplexPair } from "node:stream";
import nodeTls from "node:tls";
import { Metadata } from "@grpc/grpc-js";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { AckSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { Federation, ReportRequestSchema } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { afterEach, describe, expect, test, vi } from "vitest";
import { frame, literal, POST_HTTPS, PREFACE } from "../../../../claims/support/chaos/frames.ts";
import { type Ended, endOf, framed, Raw, signedHeader } from "../../../../claims/support/chaos/raw.ts";
import { saidByGrpc } from "../../src/grpc/own-words.ts";
import { openWorld, type World } from "./harness.ts";

const { report } = Federation.method;

let world: World | undefined;
afterEach(async () => {
  await world?.close();
  world = undefined;
  vi.restoreAllMocks();
});

describe("headers that grpc-js cannot take, and would print", () => {
  test.each([
    [AUTHORIZATION, { [AUTHORIZATION]: "Tutti c2VjcmV0\u009b31m" }],
    ["x-odd", { "x-odd": `${"a".repeat(4_000)}\ta` }],
    ["traceparent", { traceparent: "caf\u00e9" }],
    ["name", { "x!odd": "a" }],
  ])("%s: the call is refused by name, and nobody prints or logs a word of it", async (name, headers) => {
    const printed = vi.spyOn(console, "error").mockImplementation(() => {});
    world = await openWorld({ report: async () => expect.unreachable() });
    const peer = new Raw(world.server.port, world.tls);
    const { fault } = await peer.call(pathOf(report), [new Uint8Array()], headers);
    expect(fault).toMatchObject({ code: "bad-message", detail: { got: "other characters" } });
    expect(fault?.what).toContain(name);
    expect(world.server.held().turned).toEqual(new Map([["malformed", 1]]));
    expect(printed).not.toHaveBeenCalled();
    expect(world.bugs).toEqual([]);
    peer.close();
  });
});

describe("signatures beside one request", () => {
  async function sent(signatures: number): Promise<{ ended: Ended; heard: number }> {
    let heard = 0;
    const ack = async () => {
      heard += 1;
      return create(AckSchema);
    };
    world = await openWorld({ report: ack });
    const { device: key, auth, clock, server, tls } = world;
    const signer = { name: "ward-3", key, session: auth.openSession().session, nowMs: () => clock.wallMs };
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    const fields = [
      literal(":path", pathOf(report)),
      literal(":authority", "tutti"),
      literal("content-type", "application/grpc"),
      ...Array.from({ length: signatures }, () =>
        literal(AUTHORIZATION, signedHeader(pathOf(report), body, signer)[AUTHORIZATION]),
      ),
    ];
    const session = sending(Buffer.concat([POST_HTTPS, ...fields]), { port: server.port, tls });
    const stream = session.request({ ":method": "POST" }).on("error", () => {});
    const ended = endOf(stream);
    stream.end(framed(body));
    const outcome = await ended;
    session.destroy();
    return { ended: outcome, heard };
  }

  test("one is taken", async () => {
    expect(await sent(1)).toMatchObject({ ended: { fault: null }, heard: 1 });
  });

  test("two are refused, though each is good", async () => {
    const refused = { code: "refused", detail: { expected: "one signature", got: "2" } };
    expect(await sent(2)).toMatchObject({ ended: { fault: refused }, heard: 0 });
    expect(world?.server.held().turned).toEqual(new Map([["malformed", 1]]));
  });
});

/** A session whose requests go out with these bytes for headers, which Node itself would not send. */
function sending(block: Buffer, { port, tls }: { port: number; tls: string }): ClientHttp2Session {
  const how = { host: "127.0.0.1", port, ca: tls, ALPNProtocols: ["h2"], servername: "localhost" };
  const socket = nodeTls.connect(how).on("error", () => {});
  const [near, far] = duplexPair();
  let waiting = Buffer.alloc(0);
  let at = PREFACE.length;
  far.on("data", (data: Buffer) => {
    waiting = Buffer.concat([waiting, data]);
    for (; waiting.length >= at + 9; at = 0) {
      const end = at + 9 + waiting.readUIntBE(at, 3);
      if (waiting.length < end) return;
      const [type, flags] = [waiting[at + 3], waiting[at + 4]!];
      // END_STREAM and END_HEADERS stay.
      const ours = { type: 1, flags: flags & 5, stream: waiting.readUInt32BE(at + 5), body: block };
      socket.write(waiting.subarray(0, at));
      socket.write(type === 1 ? frame(ours) : waiting.subarray(at, end));
      waiting = waiting.subarray(end);
    }
  });
  socket.pipe(far);
  return http2.connect("https://localhost", { createConnection: () => near }).on("error", () => {});
}

test("what grpc-js says by itself is a line of our log, without a value", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  world = await openWorld();
  Metadata.fromHttp2Headers({ secret: "a\u009b31m" });
  expect(printed).not.toHaveBeenCalled();
  expect(world.bugs).toMatchObject([{ code: "internal", message: "grpc-js: got Failed to add metadata" }]);
});

test.each([
  ["Failed to add metadata entry key: value", "Failed to add metadata"],
  ["Connection to 10.0.0.1:1 rejected", "Connection to"],
  ["2026-01-01 | trace", "a message"],
])("%s", (text, words) => expect(saidByGrpc(text).detail.got).toBe(words));
