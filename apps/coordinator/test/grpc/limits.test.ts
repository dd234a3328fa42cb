import { EventEmitter, once } from "node:events";
import http2, { type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import nodeTls from "node:tls";
import { gzipSync } from "node:zlib";
import type { Fault } from "@tutti/foundation/fault";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { AckSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { Federation, ReportRequestSchema } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { UploadPartSchema } from "@tutti/wire/secagg";
import { faultFromGrpc } from "@tutti/wire/status";
import { afterEach, describe, expect, test } from "vitest";
import { isElsewhere } from "../../../client-sdk/src/node/ring.ts";
import { newTls } from "../../src/folder/tls.ts";
import { Connections } from "../../src/grpc/connections.ts";
import {
  HEADER_TABLE_BYTES,
  LIMITS,
  NARROW_WINDOW_BYTES,
  NEWCOMER_MS,
  WIDE_WINDOW_BYTES,
} from "../../src/grpc/limits.ts";
import { CALLS_PER_DEVICE, CALLS_PER_NEWCOMER, Load } from "../../src/grpc/load.ts";
import { hello, openWorld, signed, unary, until, type World } from "./harness.ts";

const { report, upload } = Federation.method;
const CHUNK = { case: "chunk", value: new Uint8Array(10) } as const;

let world: World | undefined;
afterEach(async () => {
  await world?.close();
  world = undefined;
});

function raw({ server, tls }: World): ClientHttp2Session {
  const session = http2.connect(`https://localhost:${server.port}`, { ca: tls });
  session.on("error", () => {});
  return session;
}

function headersOf(path: string, more: Record<string, string> = {}): http2.OutgoingHttpHeaders {
  return { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...more };
}

const ask = (world: World, body: Uint8Array, session: Uint8Array) =>
  unary(world.client, report, { body, metadata: signed(report, body, { world, session }) });

describe("docs/reliability.md, Connections: calls", () => {
  test("compressed messages are refused at the door, by name; a bomb is not even read", async () => {
    world = await openWorld();
    const session = raw(world);
    const stream = session.request(headersOf(pathOf(report), { "grpc-encoding": "gzip" }));
    stream.on("error", () => {});
    const bomb = gzipSync(new Uint8Array(1 << 20));
    stream.write(Buffer.concat([Buffer.from([1, 0, 0, bomb.length >> 8, bomb.length & 255]), bomb]));
    const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
    expect(faultIn(headers)).toMatchObject({ code: "unsupported", detail: { got: "gzip" } });
    expect(world?.server.held().turned).toEqual(new Map([["compressed", 1]]));
    session.destroy();
  });

  test("nobody is told that compression is welcome", async () => {
    world = await openWorld();
    const session = raw(world);
    const stream = session.request(headersOf("/tutti.v1.Federation/Hello"));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
    expect(headers["grpc-accept-encoding"]).toBe("identity");
    session.destroy();
  });

  test("too many calls at once: `unavailable`, and when to come again; none is left counted", async () => {
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    const handling = { report: async () => held.then(() => create(AckSchema)) };
    world = await openWorld(handling, { calls: 3 });
    const session = await hello(world);
    const open = world;
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    const waiting = [1, 2, 3].map(() => ask(open, body, session));
    await until(() => open.server.held().calls === 3);
    const fault: Fault = await ask(open, body, session).catch((error) => error);
    expect(fault).toMatchObject({ code: "unavailable", detail: { retryAfterMs: 1000 } });
    go();
    await Promise.all(waiting);
    await until(() => open.server.held().calls === 0);
    await ask(open, body, session);
  });

  test.each([
    [
      "calls",
      (session: ClientHttp2Session) =>
        session
          .request(headersOf("/x"))
          .on("error", () => {})
          .end(),
    ],
    ["pings", (session: ClientHttp2Session) => session.ping(() => {})],
    ["settings", (session: ClientHttp2Session) => session.settings({ enablePush: false })],
  ])("a flood of %s ends the connection, and nobody else's", async (_name, once) => {
    world = await openWorld({}, { callsPerSecond: 5 });
    const session = raw(world);
    await new Promise((resolve) => session.once("connect", resolve));
    for (let turn = 0; !session.destroyed && turn < 1000; turn++) {
      try {
        once(session);
      } catch {
        // It is going.
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(session.destroyed).toBe(true);
    await hello(world);
  });
});

describe("docs/reliability.md, Connections: headers", () => {
  test("what requests repeat is sent once and kept; a signature is kept by neither side", async () => {
    world = await openWorld();
    const session = raw(world);
    await once(session, "remoteSettings");
    expect(session.remoteSettings.headerTableSize).toBe(HEADER_TABLE_BYTES);
    const name = "a".repeat(200);
    const sent = async (more: Record<string, string>) => {
      const before = session.socket.bytesWritten;
      const stream = session.request(headersOf(pathOf(report), more)).on("error", () => {});
      stream.end();
      await once(stream.resume(), "close");
      return session.socket.bytesWritten - before;
    };
    const [plain, plainAgain] = [await sent({ "user-agent": name }), await sent({ "user-agent": name })];
    expect(plain - plainAgain).toBeGreaterThan(100);
    const auth = { [AUTHORIZATION]: `Tutti ${name}` };
    const [signature, signatureAgain] = [await sent(auth), await sent(auth)];
    expect(signatureAgain).toBe(signature);
    session.destroy();
  });
});

describe("docs/reliability.md, Connections: who is connected", () => {
  test("a device's oldest connection gives way to its newest", async () => {
    world = await openWorld({}, { connectionsPerDevice: 2 });
    const { client, newClient, server } = world;
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    const session = await hello(world);
    for (const one of [client, newClient(), newClient(), newClient()])
      await unary(one, report, { body, metadata: signed(report, body, { world, session }) });
    await until(() => server.held().connections === 2);
    expect(server.held().newcomers).toBe(0);
    expect(server.held().turned).toEqual(new Map([["device", 2]]));
  });

  test("connections of one address have a number", async () => {
    world = await openWorld({}, { connectionsPerAddress: 2 });
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    const session = await hello(world);
    for (const one of [world.client, world.newClient()])
      await unary(one, report, { body, metadata: signed(report, body, { world, session }) });
    const third = raw(world);
    await until(() => third.destroyed);
    expect(world.server.held()).toMatchObject({ connections: 2, turned: new Map([["full", 1]]) });
    world.client.close();
    await until(() => world?.server.held().connections === 1);
    const fourth = raw(world);
    await until(() => world?.server.held().connections === 2);
    fourth.destroy();
  });

  test("strangers of an address that has all it may give way: they shut out no device there", async () => {
    world = await openWorld({}, { connectionsPerAddress: 3 });
    const strangers = [raw(world), raw(world), raw(world)];
    await until(() => world?.server.held().connections === 3);
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    const metadata = signed(report, body, { world, session: await hello(world) });
    await unary(world.client, report, { body, metadata });
    await until(() => strangers[0]!.destroyed);
    expect(strangers.map(({ destroyed }) => destroyed)).toEqual([true, false, false]);
    expect(world.server.held()).toMatchObject({ connections: 3, turned: new Map([["newcomer", 1]]) });
    for (const stranger of strangers) stranger.destroy();
    await until(() => world?.server.held().connections === 1);
  });

  test("no TLS session is resumed, before another certificate is shown and after", async () => {
    const open = await openWorld();
    world = open;
    const tickets: Buffer[] = [];
    const connected = async (session?: Buffer) => {
      const how = { host: "127.0.0.1", port: open.server.port, rejectUnauthorized: false };
      const socket = nodeTls.connect({ ...how, ALPNProtocols: ["h2"], ...(session && { session }) });
      socket.on("session", (ticket) => tickets.push(ticket));
      await once(socket, "secureConnect");
      await once(socket, "data");
      const resumed = socket.isSessionReused();
      socket.destroy();
      return resumed;
    };
    for (const show of [false, true]) {
      if (show) open.server.showTls(await newTls({ name: "next", host: "localhost", nowMs: Date.now() }));
      tickets.length = 0;
      await connected();
      expect(tickets.length).toBeGreaterThan(0);
      expect(await connected(tickets.at(-1))).toBe(false);
    }
  });

  test("what may be sent unread is little, but while a device uploads", async () => {
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    let heard = false;
    const open = await openWorld({
      async upload(parts) {
        for await (const _part of parts) heard = true;
        await held;
        return create(AckSchema);
      },
    });
    world = open;
    const session = raw(open);
    const window = () => session.state.remoteWindowSize ?? 0;
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect(window()).toBe(NARROW_WINDOW_BYTES);
    for (let time = 0; time < 2; time++) {
      heard = false;
      const body = encode(UploadPartSchema, create(UploadPartSchema, { part: CHUNK }));
      const metadata = signed(upload, body, { world: open, session: await hello(open) });
      const [auth] = metadata.get(AUTHORIZATION) as [string];
      const more = { [AUTHORIZATION]: auth };
      const stream = session.request(headersOf(pathOf(upload), more)).on("error", () => {});
      const message = Buffer.concat([Buffer.from([0, 0, 0, 0, body.length]), body]);
      stream.write(message);
      await until(() => heard);
      // The second time what was taken back is granted with the next bytes that come.
      stream.write(message);
      await until(() => window() > WIDE_WINDOW_BYTES - 1000);
      stream.end();
      go();
      await once(stream.resume(), "close");
      // What was granted cannot be taken back; it is used up, and not granted again.
      for (let sent = 0; sent < 70; sent++)
        session
          .request(headersOf("/tutti.v1.Federation/Nothing"))
          .on("error", () => {})
          .end(new Uint8Array(60_000));
      await until(() => window() <= NARROW_WINDOW_BYTES);
    }
    session.destroy();
  });

  test("newcomers have little time, and give way when there are many", () => {
    let nowMs = 0;
    const connections = new Connections({ ...LIMITS, newcomers: 3 }, () => nowMs);
    const sockets = Array.from({ length: 4 }, (_, at) => socketAt(at));
    for (const socket of sockets.slice(0, 3)) expect(connections.admit(socket)).toBe(true);
    connections.known("10.0.0.1:1", { name: "ward-3", role: "device" });
    connections.admit(sockets[3]!);
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false, false, false]);
    connections.admit(socketAt(4));
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false, false, false]);
    nowMs = NEWCOMER_MS;
    connections.sweep();
    expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false, true, true]);
    expect(connections.size).toBe(1);
    sockets[1]!.destroy();
    expect([connections.size, connections.newcomers]).toEqual([0, 0]);
  });
});

describe("docs/reliability.md, Connections: too much to do", () => {
  const sample = { lateMs: 0, residentBytes: 1 };
  const met = (load: Load, method: string): Fault | undefined => {
    try {
      load.enter({ method, session: {}, cut: () => {} })();
      return undefined;
    } catch (error) {
      return error as Fault;
    }
  };

  test("what can wait is sent away for ever longer; the messages of a round are taken", () => {
    const load = new Load({ calls: 10, memoryBytes: 0 });
    const asked: (number | undefined)[] = [];
    for (let look = 0; look < 40; look++) {
      load.look({ ...sample, lateMs: 900 });
      asked.push(met(load, "Hello")?.detail.retryAfterMs);
      for (const method of ["Upload", "Share", "Reveal", "Ready"]) expect(met(load, method)).toBeUndefined();
    }
    expect(asked.slice(0, 3)).toEqual([undefined, undefined, undefined]);
    expect(asked[3]).toBeGreaterThanOrEqual(1000);
    expect(asked[11]).toBeGreaterThan(asked[3]!);
    expect(asked.at(-1)).toBe(30_000);
    for (const method of ["Enroll", "Renew"]) expect(met(load, method)?.code).toBe("unavailable");
    load.look(sample);
    expect(met(load, "Hello")).toBeUndefined();
  });

  test("one that does not lead names no time to come again, so that another is asked", () => {
    let leads = false;
    const load = new Load({ calls: 10, memoryBytes: 100, leads: () => leads });
    load.look({ ...sample, residentBytes: 100 });
    expect(met(load, "Listen")?.code).toBe("unavailable");
    expect(isElsewhere(met(load, "Listen"))).toBe(true);
    leads = true;
    expect(isElsewhere(met(load, "Listen"))).toBe(false);
  });

  test("a pause is not too much to do; too little memory is, at once", () => {
    const load = new Load({ calls: 10, memoryBytes: 100 });
    for (let look = 0; look < 9; look++) load.look({ ...sample, lateMs: look % 3 === 0 ? 0 : 5000 });
    expect(met(load, "Listen")).toBeUndefined();
    load.look({ ...sample, residentBytes: 100 });
    expect(met(load, "Listen")).toMatchObject({ code: "unavailable", detail: { expected: "free memory" } });
    expect(met(load, "Upload")).toBeUndefined();
  });
});

describe("docs/reliability.md, Connections: whose calls they are", () => {
  const enter = (load: Load, method: string, session: object, cut = () => {}) =>
    load.enter({ method, session, cut });
  const device = (load: Load, name: string): object => {
    const session = {};
    load.known(session, { name, role: "device" });
    return session;
  };
  const many = (count: number, call: () => unknown) => {
    for (let time = 0; time < count; time++) call();
  };

  test("strangers that hold streams have four on a connection, and none of others' room", async () => {
    const open = await openWorld({}, { calls: 8 });
    world = open;
    const sessions = Array.from({ length: 20 }, () => raw(open));
    const answers = sessions.flatMap((session) =>
      Array.from({ length: 100 }, () => session.request(headersOf(pathOf(upload))).on("error", () => {})),
    );
    const busy = () => open.server.held().turned.get("busy") ?? 0;
    await until(() => busy() === answers.length - 20 * CALLS_PER_NEWCOMER);
    expect(open.server.held().calls).toBe(20 * CALLS_PER_NEWCOMER);
    // Whoever comes now is greeted, and signs.
    const body = encode(ReportRequestSchema, create(ReportRequestSchema));
    await ask(open, body, await hello(open));
    for (const session of sessions) session.destroy();
    await until(() => open.server.held().calls === 0);
  });

  test("of too many strangers' calls the oldest gives way; what was signed over by then stays", () => {
    const load = new Load({ calls: 10, memoryBytes: 0 });
    const [cut, first] = [[] as number[], {}];
    enter(load, "Upload", first, () => cut.push(-1));
    load.known(first, { name: "ward-3", role: "device" });
    for (let at = 0; at < 1010; at++) enter(load, "Upload", {}, () => cut.push(at));
    expect(cut).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("a device has 32 at once over all its connections, and holds none of another's", () => {
    const load = new Load({ calls: 10_000, memoryBytes: 0 });
    const ends = [0, 1].flatMap(() => {
      const session = device(load, "ward-3");
      return Array.from({ length: CALLS_PER_DEVICE / 2 }, () => enter(load, "Upload", session));
    });
    expect(() => enter(load, "Ready", device(load, "ward-3"))).toThrow(/fewer calls of one device/);
    enter(load, "Ready", device(load, "ward-4"))();
    for (const end of ends) many(2, end);
    many(CALLS_PER_DEVICE, () => enter(load, "Ready", device(load, "ward-3")));
  });

  test("a round's messages are taken however many calls of others there are", () => {
    const load = new Load({ calls: 3, memoryBytes: 0 });
    many(3, () => enter(load, "Fetch", device(load, "ward-3")));
    const session = device(load, "ward-4");
    expect(() => enter(load, "Fetch", session)).toThrow(/fewer calls at once/);
    for (const method of ["Ready", "Advertise", "Pick", "Share", "Upload", "Attest", "Reveal"])
      enter(load, method, session);
  });
});

function faultIn(headers: IncomingHttpHeaders): Fault {
  const bytes = Buffer.from(`${headers["tutti-fault-bin"]}`, "base64");
  return faultFromGrpc({ code: Number(headers["grpc-status"]), details: "", fault: new Uint8Array(bytes) });
}

function socketAt(at: number): Socket & { destroyed: boolean } {
  const socket = Object.assign(new EventEmitter(), {
    remoteAddress: `10.0.0.${at}`,
    remotePort: at,
    destroyed: false,
    destroy() {
      socket.destroyed = true;
      socket.emit("close");
    },
  });
  return socket as unknown as Socket & { destroyed: boolean };
}
