import type { ClientReadableStream, ClientWritableStream, ServiceError } from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { type Ack, AckSchema } from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { type Chunk, ChunkSchema, Federation, FetchRequestSchema } from "@tutti/wire/round";
import { CHUNK_BYTES, type Handlers, MAX_MESSAGE_BYTES, pathOf } from "@tutti/wire/rpc";
import { UploadPartSchema } from "@tutti/wire/secagg";
import { afterEach, describe, expect, test } from "vitest";
import { faultOf, hello, openWorld, same, signed, toBuffer, until, type World } from "./harness.ts";

const { fetch, upload, listen } = Federation.method;
type Handling = Partial<Handlers<typeof Federation>>;

let world: World;
afterEach(() => world.close());

async function fetching(handling: Handling): Promise<ClientReadableStream<Uint8Array>> {
  world = await openWorld(handling);
  const body = encode(FetchRequestSchema, create(FetchRequestSchema, { sha256: new Uint8Array(32) }));
  const metadata = signed(fetch, body, { world, session: await hello(world) });
  return world.client.makeServerStreamRequest(pathOf(fetch), toBuffer, same, body, metadata);
}

async function chunks(stream: AsyncIterable<Uint8Array>): Promise<Chunk[]> {
  const all: Chunk[] = [];
  for await (const bytes of stream) all.push(decode(ChunkSchema, bytes, MAX_MESSAGE_BYTES));
  return all;
}

type Uploading = { call: ClientWritableStream<Uint8Array>; reply: Promise<Ack> };

/** An open upload whose first message (chunk 0) was sent. */
async function uploading(handling: Handling): Promise<Uploading> {
  world = await openWorld(handling);
  const first = part(0, 1);
  const metadata = signed(upload, first, { world, session: await hello(world) });
  let call: ClientWritableStream<Uint8Array> | undefined;
  const reply = new Promise<Ack>((resolve, reject) => {
    const done = (error: ServiceError | null, bytes?: Uint8Array) =>
      error ? reject(faultOf(error)) : resolve(decode(AckSchema, bytes!, MAX_MESSAGE_BYTES));
    call = world.client.makeClientStreamRequest(pathOf(upload), toBuffer, same, metadata, done);
  });
  reply.catch(() => {});
  call!.on("error", () => {});
  call!.write(first);
  return { call: call!, reply };
}

function part(fill: number, length: number): Uint8Array {
  const value = new Uint8Array(length).fill(fill);
  return encode(UploadPartSchema, create(UploadPartSchema, { part: { case: "chunk", value } }));
}

describe("server streaming", () => {
  test("every message, in order, then the end", async () => {
    const stream = await fetching({
      async *fetch() {
        for (let at = 0; at < 50; at++) yield create(ChunkSchema, { data: Uint8Array.of(at) });
      },
    });
    expect((await chunks(stream)).map(({ data }) => data[0])).toEqual(
      Array.from({ length: 50 }, (_, at) => at),
    );
  });

  test("a Fault in the middle comes after what was sent", async () => {
    const stream = await fetching({
      async *fetch() {
        yield create(ChunkSchema, { data: Uint8Array.of(7) });
        throw new Fault("not-found", "artifact", { todo: "Put it first" });
      },
    });
    const got: number[] = [];
    stream.on("data", (bytes: Uint8Array) => got.push(bytes.length));
    const error = await new Promise<ServiceError>((resolve) => stream.on("error", resolve));
    expect(got).toHaveLength(1);
    expect(faultOf(error)).toMatchObject({ code: "not-found", detail: { todo: "Put it first" } });
  });

  test("a stranger gets no first message", async () => {
    world = await openWorld({
      async *listen() {
        yield* [];
        throw new Error("a stranger was let in");
      },
    });
    const call = world.client.makeServerStreamRequest(pathOf(listen), toBuffer, same, new Uint8Array());
    const error = await new Promise<ServiceError>((resolve) => call.on("error", resolve).resume());
    expect(faultOf(error).code).toBe("refused");
    expect(world.bugs).toEqual([]);
  });

  test("when the client goes, the signal fires and the iterator is returned", async () => {
    const seen: string[] = [];
    const stream = await fetching({
      async *fetch(_request, { signal }) {
        try {
          yield create(ChunkSchema, { data: Uint8Array.of(1) });
          await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
          seen.push("aborted");
          yield create(ChunkSchema, { data: Uint8Array.of(2) });
          seen.push("went on");
        } finally {
          seen.push("returned");
        }
      },
    });
    stream.on("error", () => {});
    stream.once("data", () => stream.cancel());
    await until(() => seen.includes("returned"));
    expect(seen).toEqual(["aborted", "returned"]);
  });

  test("an iterator that waits for nothing but its own return is returned too", async () => {
    let returned = false;
    let settle: (result: IteratorResult<Chunk>) => void = () => {};
    const stream = await fetching({
      fetch: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () =>
            new Promise<IteratorResult<Chunk>>((resolve) => {
              settle = resolve;
            }),
          return: async () => {
            returned = true;
            settle({ done: true, value: undefined });
            return { done: true, value: undefined };
          },
        }),
      }),
    });
    stream.on("error", () => {}).resume();
    setTimeout(() => stream.cancel(), 20);
    await until(() => returned);
  });

  test("a slow reader holds a window and a message in memory, not the file", async () => {
    let yielded = 0;
    const stream = await fetching({
      async *fetch() {
        for (; yielded < 400; yielded++) yield create(ChunkSchema, { data: new Uint8Array(CHUNK_BYTES) });
      },
    });
    // A client that never began to read would hold all of it itself; this one reads a message, then no more.
    const first = await new Promise<Uint8Array>((resolve) => {
      stream.once("data", (bytes: Uint8Array) => {
        stream.pause();
        resolve(bytes);
      });
    });
    expect(first.length).toBeGreaterThan(CHUNK_BYTES);
    let before = -1;
    // Until the sender stands still.
    while (before !== yielded || yielded === 0) {
      before = yielded;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    // Kernel socket buffers take a few MiB; 100 MiB would mean that nothing waits.
    expect(yielded).toBeLessThan(60);
    expect(await chunks(stream)).toHaveLength(399);
  });
});

describe("client streaming", () => {
  test("every message, in order, then the reply", async () => {
    const got: number[] = [];
    const { call, reply } = await uploading({
      async upload(parts) {
        for await (const { part } of parts) got.push((part.value as Uint8Array)[0]!);
        return create(AckSchema);
      },
    });
    for (let at = 1; at < 40; at++) call.write(part(at, 1000));
    call.end();
    await reply;
    expect(got).toEqual(Array.from({ length: 40 }, (_, at) => at));
  });

  test("a slow handler stops the sender", async () => {
    let go: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    let received = 0;
    const { call, reply } = await uploading({
      async upload(parts) {
        await held;
        for await (const _part of parts) received += 1;
        return create(AckSchema);
      },
    });
    let accepted = 0;
    for (let at = 1; at <= 64; at++) {
      call.write(part(at, CHUNK_BYTES), () => {
        accepted += 1;
      });
    }
    call.end();
    let before = -1;
    while (before !== accepted) {
      before = accepted;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    // 16 MiB were offered; the connection's window of 4 MiB and a message or two left the sender.
    expect(accepted).toBeLessThan(20);
    go();
    await reply;
    expect(received).toBe(65);
  });

  test("a refusal comes before all is sent", async () => {
    const { call, reply } = await uploading({
      async upload() {
        throw new Fault("conflict", "upload", { expected: "a session", got: "none" });
      },
    });
    await expect(reply).rejects.toMatchObject({ code: "conflict" });
    call.cancel();
  });

  test("a client that goes in the middle is `cancelled` to the handler, and no bug", async () => {
    let seen: unknown;
    const { call, reply } = await uploading({
      async upload(parts, { signal }) {
        try {
          for await (const _part of parts) call.cancel();
        } catch (error) {
          seen = [error, signal.aborted];
          throw error;
        }
        return create(AckSchema);
      },
    });
    await expect(reply).rejects.toMatchObject({ code: "cancelled" });
    await until(() => seen !== undefined);
    expect(seen).toMatchObject([{ code: "cancelled" }, true]);
    expect(world.bugs).toEqual([]);
  });

  test("the signature covers the first message only, and a stranger's is not decoded", async () => {
    world = await openWorld();
    const metadata = signed(upload, part(1, 10), { world, session: await hello(world) });
    const error = await new Promise<ServiceError | null>((resolve) => {
      const call = world.client.makeClientStreamRequest(pathOf(upload), toBuffer, same, metadata, resolve);
      call.write(part(2, 10));
      call.end();
    });
    expect(faultOf(error!)).toMatchObject({ code: "refused", detail: { expected: "its own signature" } });
  });
});
