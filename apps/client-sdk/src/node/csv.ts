import { readFile, realpath } from "node:fs/promises";
import { resolve, sep } from "node:path";
import { fromUtf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import { parseCsv } from "../csv.ts";
import type { About } from "../examples.ts";
import { splitTable, type TableRows } from "../table.ts";

export type CsvOptions = {
  /** The site's own file, relative to its data folder, in place of the one the plan names. */
  readonly file?: string;
  /** Told once per plan, so that a site sees how much of its table was used. */
  readonly onRead?: (rows: TableRows) => void;
};

/**
 * A data function for `Device.open`: the rows that plan.data asks for, from the policy's data folder alone.
 */
export function csvData(options: CsvOptions = {}) {
  return async (plan: Plan, folder: string, { device, inputs }: About): Promise<TableRows> => {
    const { data, loss, evaluation } = plan;
    demand(
      data,
      () => new Fault("bad-input", "plan, field data", { expected: "columns and label", got: "none" }),
    );
    const file = options.file ?? data.csv;
    demand(
      file,
      () => new Fault("bad-input", "plan, field data.csv", { expected: "a file name", got: "none" }),
    );
    const bytes = await readUnder(folder, file);
    const table = parseCsv(fromUtf8(bytes, file), file);
    const floats = inputs.filter(({ dtype }) => dtype === "float32");
    const [input] = floats;
    const got = floats.map(({ name }) => name).join(", ") || "none";
    demand(
      input && floats.length === 1,
      () => new Fault("unsupported", "base model", { expected: "one float input", got }),
    );
    const random = seededRandom(`${plan.seed}/${device}`).fork("split");
    const rows = splitTable(table, {
      data,
      loss,
      holdout: evaluation.holdout,
      random,
      inputName: input.name,
    });
    options.onRead?.(rows);
    return { ...rows, digest: sha256Hex(bytes) };
  };
}

/** A file inside a folder, links followed: a plan cannot point out of what the site opened. */
export async function readUnder(folder: string, file: string): Promise<Uint8Array> {
  const todo = "Set dataFolder in the site's policy.json";
  demand(
    folder !== "",
    () => new Fault("refused", "policy, data folder", { expected: "one", got: "none", todo }),
  );
  const found = await Promise.all([realpath(folder), realpath(resolve(folder, file))]).catch((cause) => {
    throw new Fault("not-found", file, { expected: "a file in the data folder", got: `${cause}`, cause });
  });
  const [root, target] = found;
  const inside = target.startsWith(root.endsWith(sep) ? root : root + sep);
  demand(
    inside,
    () => new Fault("refused", file, { expected: "a file inside the data folder", got: "one outside" }),
  );
  return await readFile(target);
}
