import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const OPENS_A_SESSION = `
  const { mlp } = await import("@tutti/graph/make/mlp");
  const { write } = await import("@tutti/graph/write");
  const { seededRandom } = await import("@tutti/foundation/random");
  const { InferenceSession } = await import("@tutti/client-sdk/node/onnxruntime");
  const model = write(mlp({ inputs: 2, hidden: [], outputs: 2, random: seededRandom(1) }));
  await InferenceSession.create(model);
  console.log(process.pid);
`;

test("a process that runs a model through the SDK starts no telemetry (decision 0005)", () => {
  const { ORT_DISABLE_TELEMETRY: _, ...env } = process.env;
  const here = fileURLToPath(new URL("../..", import.meta.url));
  const args = ["--import", "tsx", "--input-type=module", "-e", OPENS_A_SESSION];
  const pid = execFileSync(process.execPath, args, { env, cwd: here, encoding: "utf8" }).trim();
  expect(pid).toMatch(/^\d+$/);
  expect(existsSync(join(tmpdir(), `mat-debug-${pid}.log`))).toBe(false);
});
