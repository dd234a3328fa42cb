import { type Authenticator, authenticator } from "@tutti/coordinator/grpc/authenticate";
import { type GrpcServer, serveGrpc } from "@tutti/coordinator/grpc/serve";
import { nativeVerify } from "@tutti/coordinator/native";
import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { verifyCertificate } from "@tutti/identity/certificate";
import { AckSchema, EnrollReplySchema, HelloReplySchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import {
  CheckInReplySchema,
  ChunkSchema,
  type DeclineRequest,
  Federation,
  type Instruction,
  InstructionSchema,
  type ReadyRequest,
} from "@tutti/wire/round";
import { type Call, CHUNK_BYTES, type Handlers } from "@tutti/wire/rpc";
import { type UploadHeader, type UploadPart, UploadStatusReplySchema } from "@tutti/wire/secagg";
import { VERSION } from "@tutti/wire/version";
import type { Sent, Uploaded, Word } from "./sent.ts";
import { nowS, random, type World } from "./world.ts";

type Heard = { readonly device: string } & (
  | Sent
  | { readonly stage: "ready"; readonly message: ReadyRequest }
  | { readonly stage: "decline"; readonly message: DeclineRequest }
);

/**
 * A malicious coordinator: the real server with the federation's own certificate, and handlers that say what
 * the attack says, keep all that they hear, and acknowledge everything.
 */
export class Attacker {
  readonly world: World;
  /** Files it serves, by hex SHA-256; whether they have that hash is its own affair. */
  readonly files = new Map<string, Uint8Array>();
  readonly heard: Heard[] = [];
  readonly #keys = new Map<string, Uint8Array>();
  readonly #words = new Map<string, Instruction[]>();
  readonly #waiting = new Set<() => void>();
  #server: GrpcServer | null = null;

  private constructor(world: World) {
    this.world = world;
  }

  static async open(world: World): Promise<Attacker> {
    const attacker = new Attacker(world);
    const auth = authenticator({
      lookup: async (name) => {
        const publicKey = attacker.#keys.get(name);
        return publicKey && { publicKey, role: "device", labels: {} };
      },
      nowMs: () => Date.now(),
      random,
      verify: nativeVerify,
    });
    attacker.#server = await serveGrpc({
      host: "127.0.0.1",
      port: 0,
      tls: world.federation.tls,
      services: [{ service: Federation, handlers: attacker.#handlers(auth) }],
      authenticate: auth.authenticate,
      onBug: (error) => console.error(error),
    });
    return attacker;
  }

  get address(): string {
    return `127.0.0.1:${this.#server?.port}`;
  }

  /** Every word is said, in this order. */
  say(device: string, word: Word): void {
    this.#wordsFor(device).push(create(InstructionSchema, { word }));
    this.#wake();
  }

  /** Resolves as soon as `fits` finds something in what was heard. */
  async until<T>(fits: () => T | undefined): Promise<T> {
    for (;;) {
      const found = fits();
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const go of waiting) go();
  }

  #wordsFor(device: string): Instruction[] {
    const known = this.#words.get(device) ?? [];
    this.#words.set(device, known);
    return known;
  }

  #hear(call: Call, said: Omit<Heard, "device">) {
    this.heard.push({ device: nameOf(call), ...said } as Heard);
    this.#wake();
    return create(AckSchema);
  }

  #handlers(auth: Authenticator): Handlers<typeof Federation> {
    return {
      hello: async () => create(HelloReplySchema, { ...auth.openSession(), version: VERSION }),
      enroll: async ({ certificate }) => {
        const trust = { authority: this.world.federation.authority, role: "device", nowS: nowS() } as const;
        const { name, publicKey } = verifyCertificate(certificate!, trust);
        this.#keys.set(name, publicKey);
        return create(EnrollReplySchema, { device: name });
      },
      listen: (_request, call) => this.#listen(nameOf(call), call.signal),
      checkIn: async () => create(CheckInReplySchema),
      fetch: ({ sha256, offset }) => this.#fetch(hex(sha256), offset),
      ready: async (message, call) => this.#hear(call, { stage: "ready", message }),
      decline: async (message, call) => this.#hear(call, { stage: "decline", message }),
      report: async () => create(AckSchema),
      advertise: async (message, call) => this.#hear(call, { stage: "advertise", message }),
      pick: async (message, call) => this.#hear(call, { stage: "pick", message }),
      share: async (message, call) => this.#hear(call, { stage: "share", message }),
      upload: async (parts, call) => this.#hear(call, { stage: "upload", message: await gathered(parts) }),
      uploadStatus: async () => create(UploadStatusReplySchema),
      attest: async (message, call) => this.#hear(call, { stage: "attest", message }),
      reveal: async (message, call) => this.#hear(call, { stage: "reveal", message }),
    };
  }

  async *#listen(device: string, signal: AbortSignal): AsyncGenerator<Instruction> {
    const words = this.#wordsFor(device);
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const word = words.shift();
      if (word) yield word;
      else await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async *#fetch(sha256: string, offset: number) {
    const bytes = this.files.get(sha256);
    if (!bytes) throw new Fault("not-found", `artifact ${sha256}`);
    for (let at = offset; at < bytes.length; at += CHUNK_BYTES) {
      yield create(ChunkSchema, { data: bytes.slice(at, at + CHUNK_BYTES), totalBytes: bytes.length });
    }
  }
}

export async function gathered(parts: AsyncIterable<UploadPart>): Promise<Uploaded> {
  let header: UploadHeader | undefined;
  const chunks: Uint8Array[] = [];
  for await (const { part } of parts) {
    if (part.case === "header") header = part.value;
    if (part.case === "chunk") chunks.push(part.value);
  }
  return { header: header!, packed: new Uint8Array(Buffer.concat(chunks)) };
}

function nameOf({ caller }: Call): string {
  return caller?.name ?? "nobody";
}
