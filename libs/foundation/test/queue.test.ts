import { expect, test } from "vitest";
import { queue } from "../src/queue.ts";

test("jobs are done in turn, also after one that failed; each caller hears of its own", async () => {
  const inTurn = queue();
  const order: string[] = [];
  let end = () => {};
  const first = inTurn(async () => {
    order.push("first begins");
    await new Promise<void>((resolve) => {
      end = resolve;
    });
    order.push("first ends");
    throw new Error("no");
  });
  const second = inTurn(() => order.push("second"));
  await new Promise((resolve) => setImmediate(resolve));
  expect(order).toEqual(["first begins"]);
  end();
  await expect(first).rejects.toThrow("no");
  expect(await second).toBe(3);
  expect(order).toEqual(["first begins", "first ends", "second"]);
});
