import { createSecureServer } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { ChannelCredentials, Client, Metadata } from "@grpc/grpc-js";
import { newTls } from "@tutti/coordinator/folder/tls";
import { serveGrpc } from "@tutti/coordinator/grpc/serve";
import type { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { HelloReplySchema, HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import type { Handlers } from "@tutti/wire/rpc";
import { VERSION } from "@tutti/wire/version";
import { expect, test, vi } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import { unary } from "../../src/node/calls.ts";
import { connect } from "../../src/node/grpc.ts";
import { inTime } from "../../src/node/handshake.ts";
import { PinnedTls } from "../../src/node/pins.ts";

test("a coordinator that was away is dialled whenever it is greeted, however often in vain", async () => {
  const port = await freePort();
  const tls = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
  const key = signingKey(newSeed(platformRandom()));
  const link = connect({ address: `127.0.0.1:${port}`, tls: tls.certificate, name: "ann", key });
  const greet = () => link.hello(create(HelloRequestSchema, { version: VERSION }));
  // gRPC by itself would not dial again for some five seconds after so many.
  for (let tries = 0; tries < 12; tries++)
    await expect(greet()).rejects.toMatchObject({ code: "unavailable" });
  const hello = async () =>
    create(HelloReplySchema, { session: new Uint8Array(16), nowMs: 1, version: VERSION });
  const server = await serveGrpc({
    host: "127.0.0.1",
    port,
    tls,
    services: [{ service: Federation, handlers: { hello, ...unused() } }],
    authenticate: async () => null,
    onBug: () => {},
  });
  try {
    expect((await greet()).version).toBe(VERSION);
  } finally {
    link.close();
    await server.close();
  }
});

test("a peer that takes connections and says nothing is left in time, and its connections end", async () => {
  const taken: Socket[] = [];
  const mute = createServer((socket) => void taken.push(socket.on("error", () => {}).resume()));
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  const { port } = mute.address() as AddressInfo;
  const client = new Client(`127.0.0.1:${port}`, inTime(ChannelCredentials.createSsl(), 50));
  try {
    for (let tries = 1; tries <= 2; tries++) {
      const hello = { client, method: Federation.method.hello, metadata: new Metadata() };
      const fault = await unary(hello, new Uint8Array()).catch((error: unknown) => error);
      expect(fault).toMatchObject({ code: "unavailable" });
      expect((fault as Fault).message).toContain("no TLS handshake within 0.05 s");
    }
    // It hears of each end, though the client is still open.
    while (taken.length === 0 || taken.some((socket) => !socket.closed))
      await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    client.close();
    mute.close();
  }
});

test("a call that no connection took in time says so, and whom it was for", async () => {
  const mute = createServer((socket) => void socket.on("error", () => {}).resume());
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`;
  const client = new Client(address, inTime(ChannelCredentials.createSsl(), 200));
  try {
    const about = { client, method: Federation.method.report, metadata: new Metadata(), deadlineMs: 30 };
    const fault = (await unary(about, new Uint8Array()).catch((error: unknown) => error)) as Fault;
    expect(fault).toMatchObject({ code: "deadline", what: `coordinator at ${address}` });
    expect(fault.message).toMatch(/expected a connection within [1-9][\d.]* m?s, got none/);
    expect(fault.message).not.toContain("may have been done");
  } finally {
    client.close();
    mute.close();
  }
});

test("a coordinator that takes a call and does not answer is named, and how long it had", async () => {
  const tls = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
  let answer = () => {};
  const hello = () =>
    new Promise<never>((_, reject) => {
      answer = () => reject(new Error("late"));
    });
  const server = await serveGrpc({
    host: "127.0.0.1",
    port: 0,
    tls,
    services: [{ service: Federation, handlers: { hello, ...unused() } }],
    authenticate: async () => null,
    onBug: () => {},
  });
  const address = `127.0.0.1:${server.port}`;
  const options = { "grpc.ssl_target_name_override": "tutti" };
  const client = new Client(address, new PinnedTls(tls.certificate).credentials(), options);
  try {
    const about = { client, method: Federation.method.hello, metadata: new Metadata(), deadlineMs: 2_000 };
    await expect(unary(about, new Uint8Array())).rejects.toMatchObject({
      code: "unavailable",
      what: `coordinator at ${address}`,
      detail: { expected: "an answer within 2 s", got: "none" },
      message: expect.stringContaining("What was asked for may have been done"),
    });
  } finally {
    answer();
    client.close();
    await server.close();
  }
});

test("what a coordinator sends is not printed, whatever its headers and trailers hold", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  const { key, certificate } = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
  const odd = { "x-odd": "a\u009b31m" };
  const server = createSecureServer({ key, cert: certificate });
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc", ...odd }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "7", ...odd }));
    stream.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const options = { "grpc.ssl_target_name_override": "tutti" };
  const client = new Client(address, new PinnedTls(certificate).credentials(), options);
  try {
    const report = { client, method: Federation.method.report, metadata: new Metadata() };
    await expect(unary(report, new Uint8Array())).rejects.toMatchObject({ code: "refused" });
    expect(printed).not.toHaveBeenCalled();
  } finally {
    printed.mockRestore();
    client.close();
    server.close();
  }
});

test("every link's handshakes end in time", async () => {
  const { certificate } = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
  const mended = Object.keys(inTime(ChannelCredentials.createSsl()));
  expect(mended).not.toEqual(Object.keys(ChannelCredentials.createSsl()));
  expect(Object.keys(new PinnedTls(certificate).credentials())).toEqual(expect.arrayContaining(mended));
});

/** What nobody calls here. */
function unused(): Omit<Handlers<typeof Federation>, "hello"> {
  const names = Federation.methods.map(({ localName }) => localName).filter((name) => name !== "hello");
  return Object.fromEntries(names.map((name) => [name, () => expect.unreachable(name)])) as never;
}
