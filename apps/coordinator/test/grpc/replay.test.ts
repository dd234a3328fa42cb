import { randomBytes } from "node:crypto";
import { ChannelCredentials, Client, Metadata, type ServiceError } from "@grpc/grpc-js";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey, verify } from "@tutti/identity/keys";
import { signRequest } from "@tutti/identity/request";
import { Admin } from "@tutti/wire/admin";
import { AUTHORIZATION, authorization } from "@tutti/wire/authorization";
import { create, encode } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { type DescMethod, type DescService, type Handlers, pathOf } from "@tutti/wire/rpc";
import { Register, Standing } from "@tutti/wire/standing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newTls } from "../../src/folder/tls.ts";
import { type Authenticator, authenticator } from "../../src/grpc/authenticate.ts";
import { type GrpcServer, serveGrpc } from "../../src/grpc/serve.ts";
import { faultOf, same, toBuffer } from "./harness.ts";

const SERVICES = [Federation, Admin, Standing, Register] as const;
const OPEN = ["Federation/Hello", "Federation/Enroll", "Standing/Renew", "Standing/TlsCertificates"];
const key = signingKey(newSeed(platformRandom()));
const nowMs = 1_800_000_000_000;

let auth: Authenticator;
let server: GrpcServer;
let client: Client;
let calls: string[] = [];
/** A coordinator's life: what it remembers ends with it. */
const begin = () =>
  authenticator({
    lookup: async (name) =>
      name === "ann" ? { publicKey: key.publicKey, role: "device", labels: {} } : undefined,
    nowMs: () => nowMs,
    random: platformRandom(),
    verify,
  });
beforeAll(async () => {
  const tls = await newTls({ name: "test", host: "localhost", nowMs: Date.now() });
  auth = begin();
  server = await serveGrpc({
    host: "127.0.0.1",
    port: 0,
    tls,
    services: SERVICES.map((service) => ({ service, handlers: answering(service) })) as never,
    authenticate: (request) => auth.authenticate(request),
    onBug: () => {},
  });
  client = new Client(`localhost:${server.port}`, ChannelCredentials.createSsl(Buffer.from(tls.certificate)));
});
afterAll(async () => {
  client.close();
  await server.close();
});

/** Handlers that only note that they were reached. */
function answering(service: DescService): Handlers<DescService> {
  const handlers = service.methods.map((method) => {
    const reached = () => void calls.push(pathOf(method));
    const handler =
      method.methodKind === "server_streaming"
        ? async function* () {
            reached();
            yield* [] as never[];
          }
        : async () => {
            reached();
            return create(method.output);
          };
    return [method.localName, handler] as const;
  });
  return Object.fromEntries(handlers) as unknown as Handlers<DescService>;
}

type Captured = { readonly body: Uint8Array; readonly metadata: Metadata };

/** A request as a device sends it, and as somebody may have captured it. */
function capture(method: DescMethod, session: Uint8Array): Captured {
  const body = encode(method.input, create(method.input));
  const claims = { name: "ann", session, method: pathOf(method), bodyHash: sha256(body) };
  const nonce = new Uint8Array(randomBytes(16));
  const signed = signRequest(key, { ...claims, nonce, expiresMs: nowMs + 60_000 });
  const metadata = new Metadata();
  metadata.set(AUTHORIZATION, authorization(signed));
  return { body, metadata };
}

/** How a call ends: "answered", or the Fault. */
function send(method: DescMethod, { body, metadata }: Captured): Promise<unknown> {
  return new Promise((resolve) => {
    const done = (error: ServiceError | null) => resolve(error ? faultOf(error) : "answered");
    const path = pathOf(method);
    if (method.methodKind === "unary")
      return void client.makeUnaryRequest(path, toBuffer, same, body, metadata, done);
    if (method.methodKind === "client_streaming") {
      const call = client.makeClientStreamRequest(path, toBuffer, same, metadata, done);
      call.on("error", () => {});
      call.write(body);
      return call.end();
    }
    const call = client.makeServerStreamRequest(path, toBuffer, same, body, metadata);
    call.on("data", () => {});
    call.on("error", (error) => resolve(faultOf(error as ServiceError)));
    call.on("end", () => resolve("answered"));
  });
}

const METHODS = SERVICES.flatMap((service) => service.methods as readonly DescMethod[]);
const SIGNED = METHODS.filter((method) => !OPEN.includes(pathOf(method).slice("/tutti.v1.".length)));

describe.each(SIGNED.map((method) => [pathOf(method), method] as const))("%s", (path, method) => {
  test("captured, it is good once, on its own method, and for one life of the coordinator", async () => {
    calls = [];
    const { session } = auth.openSession();
    const captured = capture(method, session);
    expect(await send(method, captured)).toBe("answered");
    expect(calls).toEqual([path]);
    expect(await send(method, captured)).toMatchObject({ code: "refused", detail: { got: "a replay" } });
    const other = SIGNED.find((one) => one !== method && one.methodKind === method.methodKind)!;
    expect(await send(other, capture(method, session))).toMatchObject({ code: "refused" });
    const altered = { ...capture(method, session), body: Uint8Array.of(0x78, 1) };
    expect(await send(method, altered)).toMatchObject({ code: "refused" });
    const unsigned = { ...captured, metadata: new Metadata() };
    expect(await send(method, unsigned)).toMatchObject({ code: "refused" });
    const kept = capture(method, session);
    auth = begin();
    expect(await send(method, kept)).toMatchObject({ detail: { todo: "Say Hello again" } });
    expect(calls).toEqual([path]);
  });
});

test("what is open carries its own signature, or nothing that is believed", () => {
  const open = METHODS.filter((method) => !SIGNED.includes(method));
  expect(open.map((method) => pathOf(method).slice("/tutti.v1.".length)).sort()).toEqual([...OPEN].sort());
});
