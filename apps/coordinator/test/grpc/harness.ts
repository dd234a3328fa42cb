import { randomBytes } from "node:crypto";
import { ChannelCredentials, Client, type ClientOptions, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, type SigningKey, signingKey, verify } from "@tutti/identity/keys";
import { signRequest } from "@tutti/identity/request";
import { AUTHORIZATION, authorization } from "@tutti/wire/authorization";
import { AckSchema, HelloReplySchema } from "@tutti/wire/device";
import { create, type DescMessage, decode, type MessageShape } from "@tutti/wire/message";
import { CheckInReplySchema, Federation } from "@tutti/wire/round";
import { type Call, type DescMethod, type Handlers, MAX_MESSAGE_BYTES, pathOf } from "@tutti/wire/rpc";
import { UploadStatusReplySchema } from "@tutti/wire/secagg";
import { FAULT_METADATA, faultFromGrpc } from "@tutti/wire/status";
import { newTls } from "../../src/folder/tls.ts";
import { type Authenticator, authenticator } from "../../src/grpc/authenticate.ts";
import type { Limits } from "../../src/grpc/limits.ts";
import type { Serving } from "../../src/grpc/liveness.ts";
import { type GrpcServer, serveGrpc } from "../../src/grpc/serve.ts";

type Handling = Partial<Handlers<typeof Federation>>;

/** One device, one coordinator, a clock that the test sets. */
export type World = {
  readonly server: GrpcServer;
  readonly client: Client;
  readonly auth: Authenticator;
  readonly device: SigningKey;
  readonly tls: string;
  readonly bugs: unknown[];
  readonly clock: { wallMs: number };
  newClient(options?: ClientOptions): Client;
  close(): Promise<void>;
};

let tls: ReturnType<typeof newTls> | undefined;

export async function openWorld(
  handling: Handling = {},
  limits: Partial<Limits> = {},
  serving: () => Serving = () => [],
): Promise<World> {
  // The certificate's dates are compared with the machine's clock by the TLS stack.
  tls ??= newTls({ name: "test", host: "localhost", nowMs: Date.now() });
  const pair = await tls;
  const device = signingKey(newSeed(platformRandom()));
  const clock = { wallMs: 1_800_000_000_000 };
  const auth = authenticator({
    lookup: async (name) =>
      name === "ward-3" ? { publicKey: device.publicKey, role: "device", labels: { site: "A" } } : undefined,
    nowMs: () => clock.wallMs,
    random: platformRandom(),
    verify,
  });
  const bugs: unknown[] = [];
  const server = await serveGrpc({
    host: "127.0.0.1",
    port: 0,
    tls: pair,
    services: [{ service: Federation, handlers: { ...defaults(auth), ...handling } }],
    authenticate: auth.authenticate,
    limits,
    serving,
    onBug: (error) => bugs.push(error),
  });
  const clients: Client[] = [];
  const newClient = (options: ClientOptions = {}) => {
    const credentials = ChannelCredentials.createSsl(Buffer.from(pair.certificate));
    const client = new Client(`localhost:${server.port}`, credentials, {
      "grpc.use_local_subchannel_pool": 1,
      ...options,
    });
    clients.push(client);
    return client;
  };
  const client = newClient();
  return {
    server,
    client,
    auth,
    device,
    tls: pair.certificate,
    bugs,
    clock,
    newClient,
    async close() {
      for (const one of clients) one.close();
      await server.close();
    },
  };
}

function defaults(auth: Authenticator): Handlers<typeof Federation> {
  const ack = async () => create(AckSchema);
  const nothing = () => ({ async *[Symbol.asyncIterator]() {} });
  return {
    hello: async () => create(HelloReplySchema, { ...auth.openSession(), version: "test" }),
    enroll: async () => ({ $typeName: "tutti.v1.EnrollReply", device: "ward-3" }),
    listen: nothing,
    checkIn: async () => create(CheckInReplySchema),
    fetch: nothing,
    ready: ack,
    decline: ack,
    report: ack,
    advertise: ack,
    pick: ack,
    share: ack,
    upload: ack,
    uploadStatus: async () => create(UploadStatusReplySchema),
    attest: ack,
    reveal: ack,
  };
}

type Shape<D extends DescMessage> = MessageShape<D>;

export type Signing = {
  readonly world: World;
  readonly session: Uint8Array;
  readonly name?: string;
  readonly key?: SigningKey;
  readonly nonce?: Uint8Array;
  readonly lifeMs?: number;
};

/** Metadata with a signature, as a device makes it. */
export function signed(method: DescMethod, body: Uint8Array, signing: Signing): Metadata {
  const { world, session, name = "ward-3", key = world.device, lifeMs = 60_000 } = signing;
  const auth = signRequest(key, {
    name,
    session,
    method: pathOf(method),
    bodyHash: sha256(body),
    nonce: signing.nonce ?? new Uint8Array(randomBytes(16)),
    expiresMs: world.clock.wallMs + lifeMs,
  });
  const metadata = new Metadata();
  metadata.set(AUTHORIZATION, authorization(auth));
  return metadata;
}

export function unary<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethod & { input: I; output: O },
  { body, metadata = new Metadata() }: { body: Uint8Array; metadata?: Metadata },
): Promise<Shape<O>> {
  return new Promise((resolve, reject) => {
    const done = (error: ServiceError | null, reply?: Uint8Array) =>
      error ? reject(faultOf(error)) : resolve(decode(method.output, reply!, MAX_MESSAGE_BYTES));
    client.makeUnaryRequest(pathOf(method), toBuffer, same, body, metadata, done);
  });
}

export function faultOf(error: ServiceError): Fault {
  const [fault] = error.metadata?.get(FAULT_METADATA) ?? [];
  const bytes = fault instanceof Buffer ? new Uint8Array(fault) : undefined;
  return faultFromGrpc({ code: error.code, details: error.details, fault: bytes });
}

export async function hello(world: World): Promise<Uint8Array> {
  const reply = await unary(world.client, Federation.method.hello, { body: new Uint8Array() });
  return reply.session;
}

export function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes);
}

export function same(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes);
}

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

export type { Call };
