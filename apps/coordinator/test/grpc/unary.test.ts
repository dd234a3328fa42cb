import { Metadata } from "@grpc/grpc-js";
import { asFault, Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { AckSchema } from "@tutti/wire/device";
import { create, encode } from "@tutti/wire/message";
import { Federation, ReportRequestSchema } from "@tutti/wire/round";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import { afterEach, describe, expect, test } from "vitest";
import { type Call, hello, openWorld, type Signing, signed, unary, type World } from "./harness.ts";

const { report, checkIn, hello: helloMethod } = Federation.method;
const body = encode(
  ReportRequestSchema,
  create(ReportRequestSchema, { activity: "training", progress: 0.5 }),
);

let world: World;
afterEach(() => world.close());

/** A report, signed well unless `change` says otherwise. */
async function say(session: Uint8Array, change: Partial<Signing> = {}, sent = body) {
  const metadata = signed(report, body, { world, session, ...change });
  return await unary(world.client, report, { body: sent, metadata });
}

describe("unary calls", () => {
  test("a handler hears the message, its sender and the sender's labels", async () => {
    let heard: unknown;
    world = await openWorld({
      report: async ({ activity, progress }, { caller }: Call) => {
        heard = { activity, progress, caller };
        return create(AckSchema);
      },
    });
    await say(await hello(world));
    expect(heard).toEqual({
      activity: "training",
      progress: 0.5,
      caller: { name: "ward-3", role: "device", labels: { site: "A" } },
    });
  });

  test("Hello is open and its handler is told that nobody is known", async () => {
    world = await openWorld();
    const reply = await unary(world.client, helloMethod, { body: new Uint8Array() });
    expect(reply.session).toHaveLength(16);
    expect(reply.nowMs).toBe(world.clock.wallMs);
  });

  test("a Fault arrives whole: code, sentence and advice", async () => {
    const thrown = new Fault("conflict", "round", {
      expected: "round 3 – now",
      got: "round 2",
      todo: "Wait",
    });
    world = await openWorld({ report: () => Promise.reject(thrown) });
    const caught = await say(await hello(world)).catch((error: unknown) => error);
    expect(caught).toBeInstanceOf(Fault);
    expect(caught).toMatchObject({ code: "conflict", message: thrown.message, detail: thrown.detail });
  });

  const bug = new TypeError("secret key 1234 is undefined");
  test.each([bug, asFault(bug)])(
    "a bug is `internal`; only the coordinator is told which: %s",
    async (thrown) => {
      world = await openWorld({ report: () => Promise.reject(thrown) });
      const caught = (await say(await hello(world)).catch((error: unknown) => error)) as Fault;
      expect(caught).toMatchObject({ code: "internal", message: "internal error" });
      expect(JSON.stringify([caught.message, caught.detail])).not.toMatch(/secret|1234/);
      expect(world.bugs).toEqual([thrown]);
    },
  );

  test("a storage error is `unavailable`, without its path", async () => {
    const fault = new Fault("storage", "committing", { got: "/var/lib/x: disk full" });
    world = await openWorld({ report: () => Promise.reject(fault) });
    const caught = (await say(await hello(world)).catch((error: unknown) => error)) as Fault;
    expect(caught.code).toBe("unavailable");
    expect(caught.message).not.toContain("/var");
  });

  test("a message above the limit is refused before any handler, and the connection goes on", async () => {
    let calls = 0;
    world = await openWorld({
      report: async () => {
        calls += 1;
        return create(AckSchema);
      },
    });
    const session = await hello(world);
    const big = new Uint8Array(MAX_MESSAGE_BYTES + 1);
    await expect(say(session, {}, big)).rejects.toMatchObject({ code: "bad-message" });
    expect(calls).toBe(0);
    await say(session);
    expect(calls).toBe(1);
  });

  test("bytes that are no message are `bad-message`, but only for who may speak", async () => {
    world = await openWorld();
    const session = await hello(world);
    const junk = Uint8Array.from([0xff, 0xff, 0xff]);
    const metadata = signed(report, junk, { world, session });
    await expect(unary(world.client, report, { body: junk, metadata })).rejects.toMatchObject({
      code: "bad-message",
    });
    await expect(unary(world.client, report, { body: junk })).rejects.toMatchObject({ code: "refused" });
  });
});

describe("docs/protocol.md, Transport and requests: what a signature covers", () => {
  async function refusal(change: Partial<Signing>, sent = body): Promise<string> {
    world = await openWorld();
    const session = await hello(world);
    const caught = await say(session, change, sent).then(
      () => new Error("not refused"),
      (error: Fault) => error,
    );
    expect(caught).toMatchObject({ code: "refused" });
    return caught.message;
  }

  test("none", async () => {
    world = await openWorld();
    await expect(unary(world.client, report, { body })).rejects.toMatchObject({
      code: "refused",
      detail: { expected: "a signature" },
    });
  });

  test("another key", async () => {
    const key = signingKey(newSeed(platformRandom()));
    expect(await refusal({ key })).toContain("its own signature");
  });

  test("an unknown name", async () => expect(await refusal({ name: "ward-4" })).toContain("ward-4"));

  test("another body", async () => {
    const other = encode(ReportRequestSchema, create(ReportRequestSchema, { activity: "idle" }));
    expect(await refusal({}, other)).toContain("its own signature");
  });

  test("another method", async () => {
    world = await openWorld();
    const metadata = signed(checkIn, body, { world, session: await hello(world) });
    await expect(unary(world.client, report, { body, metadata })).rejects.toMatchObject({ code: "refused" });
  });

  test("another session", async () => {
    expect(await refusal({ session: new Uint8Array(16) })).toContain("session");
  });

  test("expired", async () => expect(await refusal({ lifeMs: -1 })).toContain("expiry"));

  test("good for more than five minutes", async () => {
    expect(await refusal({ lifeMs: 5 * 60_000 + 1 })).toContain("expiry");
  });

  test("two signatures in one header, as a proxy may join them", async () => {
    world = await openWorld();
    const session = await hello(world);
    const metadata = signed(report, body, { world, session });
    const both = [metadata, signed(report, body, { world, session })].flatMap((one) =>
      one.get(AUTHORIZATION),
    );
    metadata.set(AUTHORIZATION, both.join(", "));
    await expect(unary(world.client, report, { body, metadata })).rejects.toMatchObject({ code: "refused" });
  });

  test("a replay, even one that races the first, and even after the clock is set back", async () => {
    world = await openWorld();
    const session = await hello(world);
    const metadata = signed(report, body, { world, session });
    const once = () => unary(world.client, report, { body, metadata: metadata.clone() });
    const both = await Promise.allSettled([once(), once()]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await expect(once()).rejects.toMatchObject({ code: "refused", detail: { got: "a replay" } });
    // The nonce is forgotten at its expiry; stepping the clock back must not make the request fresh again.
    const before = world.clock.wallMs;
    world.clock.wallMs = before + 61_000;
    await say(session);
    world.clock.wallMs = before;
    await expect(once()).rejects.toMatchObject({ code: "refused" });
  });

  test("metadata that is no message", async () => {
    world = await openWorld();
    const metadata = new Metadata();
    const refused = async (text: string) => {
      metadata.set(AUTHORIZATION, text);
      const fault = await unary(world!.client, report, { body, metadata }).catch((error: Fault) => error);
      return (fault as Fault).code;
    };
    expect(await refused(`Tutti ${Buffer.from([0xff, 1, 2]).toString("base64")}`)).toBe("bad-message");
    expect(await refused("Tutti *")).toBe("bad-message");
    expect(await refused("Tutti")).toBe("refused");
    expect(await refused("Basic YW5uOnNlY3JldA==")).toBe("refused");
    expect(await refused(`Tutti ${"A".repeat(4_000)}`)).toBe("refused");
  });
});
