import type { Fault } from "@tutti/foundation/fault";
import { create } from "@tutti/wire/message";
import { Federation, InstructionSchema, ListenRequestSchema } from "@tutti/wire/round";
import type { Handlers } from "@tutti/wire/rpc";
import { expect, test } from "vitest";
import { gated, standby, type Term } from "../../src/lead/gate.ts";
import type { Role } from "../../src/lead/keeper.ts";
import { Office } from "../../src/lead/office.ts";

const termOf = (epoch: number) => ({ epoch }) as Term;

test("others are told of a leader once its term is at work, and at once that it is over", () => {
  const office = new Office();
  const told: Role["kind"][] = [];
  office.onRole(({ kind }) => told.push(kind));
  office.become({ kind: "leader", epoch: 2 });
  expect([office.role.kind, ...told]).toEqual(["standby", "standby"]);
  expect(() => office.term()).toThrow("just beginning to lead");
  office.enter(termOf(1));
  expect(told).toEqual(["standby"]);
  office.enter(termOf(2));
  expect(office.role).toEqual({ kind: "leader", epoch: 2 });
  expect(office.term().epoch).toBe(2);
  office.become({ kind: "standby", leader: null });
  expect(told).toEqual(["standby", "leader", "standby"]);
  expect(() => office.term()).toThrow("got a standby");
  office.enter(termOf(2));
  expect(office.role.kind).toBe("standby");
});

test("an epoch that ends late leaves alone what this process has become since", () => {
  const office = new Office();
  office.become({ kind: "leader", epoch: 1 });
  office.become({ kind: "standby", leader: "b:1" });
  office.leave(1);
  expect(office.role).toEqual({ kind: "standby", leader: "b:1" });
  office.become({ kind: "leader", epoch: 3 });
  expect([office.enter(termOf(1)), office.enter(termOf(3))]).toEqual([false, true]);
  office.leave(1);
  expect(office.term().epoch).toBe(3);
  office.leave(3);
  expect(() => office.term()).toThrow("got a standby");
});

test("whoever asks one that does not lead is sent on: it names no time to come again here", () => {
  const office = new Office();
  const asked = () => {
    try {
      return office.term();
    } catch (fault) {
      return (fault as Fault).detail;
    }
  };
  expect(asked()).not.toHaveProperty("retryAfterMs");
  office.become({ kind: "leader", epoch: 2 });
  expect(asked()).not.toHaveProperty("retryAfterMs");
});

test("a stream that ends since its process leads no more says so", async () => {
  let isOver = false;
  const listen = async function* () {
    yield create(InstructionSchema);
    isOver = true;
  };
  const handlers = gated(Federation, () => {
    if (isOver) throw standby({ kind: "standby", leader: "b:1" });
    return { listen } as unknown as Handlers<typeof Federation>;
  });
  const call = { caller: null, signal: new AbortController().signal };
  const words = handlers.listen(create(ListenRequestSchema), call)[Symbol.asyncIterator]();
  expect((await words.next()).done).toBe(false);
  await expect(words.next()).rejects.toMatchObject({ code: "unavailable", detail: { todo: "Ask b:1" } });
});
