import { expect, test } from "vitest";
import { EVENTS } from "../../src/observe/events.ts";
import type { Levels } from "../../src/observe/levels.ts";
import { openMeters } from "../../src/observe/meters.ts";
import { code, PAGE, pageWith } from "../page.ts";

const NOTHING = {} as Levels;

test("docs/operating.md has each table as the code has it (npx vitest run FILE -u writes them)", async () => {
  const events = Object.entries(EVENTS).map(([name, [level, says]]) => [code(name), level, says]);
  const metrics = openMeters(() => NOTHING)
    .all()
    .map(({ name, type, help }) => [code(name), type, help]);
  const page = pageWith({
    events: { head: ["event", "level", "what it means"], rows: events },
    metrics: { head: ["metric", "type", "what it counts"], rows: metrics },
  });
  await expect(page).toMatchFileSnapshot(PAGE);
});
