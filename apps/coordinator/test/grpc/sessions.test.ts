import { hex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { Sessions } from "../../src/grpc/sessions.ts";

const random = platformRandom();
const signed = (name: string) => ({ name, nonce: random.bytes(16), expiresMs: 60_000 });

/** Hello and one signed request. */
function greet(sessions: Sessions, name: string): string {
  const id = hex(sessions.open(0));
  sessions.use(sessions.find(id, 0)!, signed(name), 0);
  return id;
}

test("a name holds 8 sessions; one more and its own oldest is gone, nobody else's", () => {
  const sessions = new Sessions(random);
  const other = greet(sessions, "b");
  const own = Array.from({ length: 10 }, () => greet(sessions, "a"));
  const alive = own.map((id) => sessions.find(id, 0) !== undefined);
  expect(alive).toEqual([false, false, ...Array<boolean>(8).fill(true)]);
  sessions.use(sessions.find(own[2]!, 0)!, signed("a"), 0);
  expect(sessions.find(own[2]!, 0)).toBeDefined();
  expect(sessions.find(other, 0)).toBeDefined();
});

test("a name's nonces are bounded over all its sessions, and take no room from another's", () => {
  const sessions = new Sessions(random);
  const own = Array.from({ length: 8 }, () => greet(sessions, "a"));
  const other = greet(sessions, "b");
  const say = (id: string, name: string, nowMs = 0) =>
    sessions.use(sessions.find(id, nowMs)!, { ...signed(name), expiresMs: nowMs + 60_000 }, nowMs);
  let taken = 8;
  const all = () => {
    for (let time = 0; ; time++, taken++) say(own[time % 8]!, "a");
  };
  expect(all).toThrow("fewer requests");
  expect(taken).toBe(16_384);
  for (const id of own) expect(() => say(id, "a")).toThrow("fewer requests");
  say(other, "b");
  // As nonces expire there is room again.
  say(own[3]!, "a", 60_000);
});

test("a nonce is remembered to the last moment that its signature is good", () => {
  const sessions = new Sessions(random);
  const session = sessions.find(hex(sessions.open(0)), 0)!;
  const request = signed("a");
  sessions.use(session, request, 0);
  const lastMs = request.expiresMs - 1;
  sessions.use(session, { ...signed("a"), expiresMs: lastMs + 60_000 }, lastMs);
  expect(() => sessions.use(session, request, lastMs)).toThrow("a replay");
});

test("devices that came back many times leave room for those that come", () => {
  const sessions = new Sessions(random);
  const newest = Array.from({ length: 10_000 }, (_, at) => {
    for (let time = 0; time < 4; time++) greet(sessions, `d${at}`);
    return greet(sessions, `d${at}`);
  });
  for (let time = 0; time < 3_000; time++) greet(sessions, `e${time}`);
  expect(newest.every((id) => sessions.find(id, 0) !== undefined)).toBe(true);
});

test("one device that greets without end does not shut the door for others", () => {
  const sessions = new Sessions(random);
  for (let time = 0; time < 50_001; time++) greet(sessions, "a");
  expect(greet(sessions, "b")).toHaveLength(32);
});
