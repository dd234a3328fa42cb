import { Fault, type FaultCode } from "@tutti/foundation/fault";
import type { Round } from "@tutti/round/round";
import { describe, expect, test } from "vitest";
import { Completion } from "../../src/drive/completion.ts";

const AT = { header: {}, sum: new Uint32Array(1), papers: {} } as never;

/** How often a completion is tried that fails with `code` each time. */
async function triesOf(code: FaultCode): Promise<number> {
  let tries = 0;
  const completion = new Completion({
    complete: async () => {
      tries++;
      throw new Fault(code, "a completion");
    },
    sleep: async () => {},
    onFailure: () => {},
  });
  const round = { spec: { task: { round: 1 }, attempt: 0 } } as unknown as Round;
  await expect(completion.of(round, AT)).rejects.toThrow();
  return tries;
}

describe("a completion", () => {
  test("gets five chances where storage or a thread failed it, one where it fails for good", async () => {
    expect(await triesOf("storage")).toBe(5);
    expect(await triesOf("unavailable")).toBe(5);
    for (const code of ["refused", "internal", "cancelled"] as const) expect(await triesOf(code)).toBe(1);
  });
});
