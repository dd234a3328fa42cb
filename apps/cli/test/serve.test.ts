import { Office } from "@tutti/coordinator/lead/office";
import { expect, test } from "vitest";
import { tellRole } from "../src/commands/serve.ts";

/** What a coordinator at this address said, as people read it and as scripts do. */
function telling(more: { readonly operationsPort?: number } = {}) {
  const office = new Office();
  const about = { name: "f", address: "a:1", operationsPort: undefined, ...more };
  const lines: string[] = [];
  const roles: unknown[] = [];
  const quiet = tellRole(
    { ...about, onRole: (callback) => office.onRole(callback) },
    {
      result: (value, sentence) => {
        lines.push(sentence);
        roles.push(value.role);
      },
    },
  );
  return { office, lines, roles, quiet };
}

test("a role that changes is said again: the last line is how it is", () => {
  const { office, lines, roles, quiet } = telling();
  office.become({ kind: "standby", leader: "b:2" });
  office.become({ kind: "leader", epoch: 3 });
  office.enter({ epoch: 3 } as never);
  office.leave(3);
  office.become({ kind: "standby", leader: null });
  expect(lines).toEqual([
    "federation f stands by on a:1 (Ctrl-C stops it)",
    "federation f stands by on a:1, b:2 leads (Ctrl-C stops it)",
    "federation f listens on a:1 (Ctrl-C stops it)",
    "federation f stands by on a:1 (Ctrl-C stops it)",
  ]);
  expect(roles).toEqual(["standby", "standby", "leader", "standby"]);
  quiet();
  office.become({ kind: "standby", leader: "b:2" });
  expect(lines).toHaveLength(4);
});
