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

test("one device that greets without end does not shut the door for others", () => {
  const sessions = new Sessions(random);
  for (let time = 0; time < 50_001; time++) greet(sessions, "a");
  expect(greet(sessions, "b")).toHaveLength(32);
});
