import type { Client } from "@grpc/grpc-js";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { faultFromGrpc, isOtherCertificate } from "@tutti/wire/status";
import { expect, test } from "vitest";
import { askAround, Ring } from "../../src/node/ring.ts";

/** Clients that are their address, and the order in which they were asked. */
function world(addresses: readonly string[], leader: () => string | null) {
  const made: string[] = [];
  const asked: string[] = [];
  const ring = new Ring(addresses, (address) => {
    made.push(address);
    return { address, close: () => void made.push(`-${address}`) } as unknown as Client;
  });
  const addressOf = (client: Client) => (client as unknown as { address: string }).address;
  let nowMs = 0;
  const sleep = async (ms: number) => {
    nowMs += ms;
  };
  const clock = { ...systemClock(), nowMs: () => nowMs, sleep };
  const ask = (patienceMs = 0, fault = new Fault("unavailable", "this coordinator"), answerMs = 0) =>
    askAround(
      async (client) => {
        asked.push(addressOf(client));
        nowMs += answerMs;
        if (addressOf(client) !== leader()) throw fault;
        return addressOf(client);
      },
      { ring, clock, signal: undefined, patienceMs },
    );
  return { ring, asked, made, ask };
}

test("asks one after the other until one answers, and begins with that one the next time", async () => {
  let leader = "c";
  const { ask, asked, made } = world(["a", "b", "c"], () => leader);
  expect(await ask()).toBe("c");
  expect(await ask()).toBe("c");
  leader = "b";
  expect(await ask()).toBe("b");
  expect(asked).toEqual(["a", "b", "c", "c", "c", "a", "b"]);
  // A connection is made once, and only to whom it is needed.
  expect(made).toEqual(["a", "b", "c"]);
});

test("goes round once where nobody leads, or for as long as it was told to", async () => {
  const { ask, asked } = world(["a", "b"], () => null);
  await expect(ask()).rejects.toMatchObject({ code: "unavailable" });
  expect(asked).toEqual(["a", "b"]);
  await expect(ask(1_000)).rejects.toMatchObject({ code: "unavailable" });
  // Two a round, 200 to 400 ms apart.
  expect(asked.length).toBeGreaterThanOrEqual(2 + 2 * 3);
  expect(asked.length).toBeLessThanOrEqual(2 + 2 * 6);
});

test("where nobody leads each is told of, and that standbys wait for their database", async () => {
  const ring = new Ring(["a:1", "b:2"], (address) => ({ address }) as unknown as Client);
  const off = faultFromGrpc({ code: 14, details: "connect ECONNREFUSED b:2" });
  const standby = new Fault("unavailable", "this coordinator", {
    expected: "the one that leads",
    got: "a standby",
  });
  const told = async (a: Fault) => {
    const about = { ring, clock: systemClock(), signal: undefined, patienceMs: 0 };
    return await askAround(async (client): Promise<string> => {
      throw (client as unknown as { address: string }).address === "a:1" ? a : off;
    }, about).catch((error: Fault) => error.message);
  };
  const [waits, gone] = [await told(standby), await told(off)];
  expect(waits).toContain("expected one that leads, got a:1: a standby; b:2: nothing listens there. Those");
  expect(waits).toContain("wait for their database");
  expect(gone).not.toContain("database");
});

test("one that takes all the time to say no leaves time for once more round", async () => {
  const { ask, asked } = world(["a", "b"], () => (asked.length > 2 ? "b" : null));
  // Ten seconds each: after the first round the patience is over.
  expect(await ask(10_000, undefined, 10_000)).toBe("b");
  expect(asked).toEqual(["a", "b", "a", "b"]);
});

test("a certificate that is not pinned is what is told, whatever standbys say after it", async () => {
  const ring = new Ring(["a", "b"], (address) => ({ address }) as unknown as Client);
  let nowMs = 0;
  const sleep = async (ms: number) => {
    nowMs += ms;
  };
  const clock = { ...systemClock(), nowMs: () => nowMs, sleep };
  const asked: string[] = [];
  const answer = (shows: () => boolean) => async (client: Client) => {
    const { address } = client as unknown as { address: string };
    asked.push(address);
    throw shows() && address === "a"
      ? faultFromGrpc({ code: 14, details: "self-signed certificate" })
      : new Fault("unavailable", "this coordinator");
  };
  const about = { ring, clock, signal: undefined };
  const told = askAround(
    answer(() => true),
    { ...about, patienceMs: 0 },
  );
  await expect(told).rejects.toSatisfy(isOtherCertificate);
  expect(asked).toEqual(["a", "b"]);
  // What was so once, before they were all asked again, is not told.
  const once = askAround(
    answer(() => asked.length <= 4),
    { ...about, patienceMs: 1_000 },
  );
  await expect(once).rejects.not.toSatisfy(isOtherCertificate);
});

test("where nobody leads to vouch for a new certificate, that is said, and what to do", async () => {
  const ring = new Ring(["a:1", "b:2"], (address) => ({ address }) as unknown as Client);
  const told = askAround(
    async (client): Promise<string> => {
      if ((client as unknown as { address: string }).address === "b:2")
        throw new Fault("unavailable", "this coordinator", { got: "a standby" });
      throw faultFromGrpc({ code: 14, details: "self-signed certificate" });
    },
    { ring, clock: systemClock(), signal: undefined, patienceMs: 0 },
  );
  const said =
    "one that leads, got a:1: another TLS certificate than is pinned; b:2: a standby. Only the one";
  await expect(told).rejects.toThrow(`coordinators: expected ${said} that leads vouches`);
  await expect(told).rejects.toMatchObject({ detail: { cause: { what: "coordinator's TLS certificate" } } });
});

test("one with another certificate is asked at once whether it is its own", async () => {
  const [asked, vouched]: [string[], string[]] = [[], []];
  const ring = new Ring(["a", "b"], (address) => {
    return { address, close: () => {} } as unknown as Client;
  });
  const sleep = () => Promise.reject(new Error("waited"));
  const answer = async (client: Client) => {
    const { address } = client as unknown as { address: string };
    asked.push(address);
    if (address === "a") throw new Fault("unavailable", "this coordinator", { got: "a standby" });
    if (vouched.length === 0) throw faultFromGrpc({ code: 14, details: "self-signed certificate" });
    return address;
  };
  const repinned = async (address: string) => vouched.push(address) > 0;
  const about = { ring, clock: { ...systemClock(), sleep }, signal: undefined, patienceMs: 10_000, repinned };
  expect(await askAround(answer, about)).toBe("b");
  expect([asked, vouched]).toEqual([["a", "b", "b"], ["b"]]);
});

test("one that is vouched for and shows yet another certificate is not asked for ever", async () => {
  let times = 0;
  const ring = new Ring(["a"], (address) => ({ address, close: () => {} }) as unknown as Client);
  const answer = async () => {
    times += 1;
    throw faultFromGrpc({ code: 14, details: "self-signed certificate" });
  };
  const clock = { ...systemClock(), sleep: () => Promise.reject(new Error("waited")) };
  const about = { ring, clock, signal: undefined, patienceMs: 0, repinned: async () => times < 100 };
  await expect(askAround(answer, about)).rejects.toMatchObject({ code: "unavailable" });
  expect(times).toBe(2);
});

test("a no, and a leader that says when to come again, are answers", async () => {
  const { ask, asked } = world(["a", "b"], () => null);
  await expect(ask(0, new Fault("refused", "request"))).rejects.toMatchObject({ code: "refused" });
  const busy = new Fault("unavailable", "this coordinator", { retryAfterMs: 500 });
  await expect(ask(0, busy)).rejects.toMatchObject({ code: "unavailable" });
  expect(asked).toEqual(["a", "a"]);
});

test("many who lose the same coordinator leave it once", () => {
  const { ring } = world(["a", "b", "c"], () => null);
  const { client } = ring;
  for (let time = 0; time < 5; time++) ring.leave(client);
  expect((ring.client as unknown as { address: string }).address).toBe("b");
});

test("one address is never left, and each made connection is closed", () => {
  const { ring, made } = world(["a", "a"], () => null);
  ring.leave(ring.client);
  expect(ring.size).toBe(1);
  ring.close();
  expect(made).toEqual(["a", "-a"]);
});
