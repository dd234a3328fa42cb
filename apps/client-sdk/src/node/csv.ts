import { lstat, readFile, readlink, realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fromUtf8 } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import type { Plan } from "@tutti/plan/plan";
import { staysInside } from "@tutti/plan/site-path";
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

/**
 * A file inside a folder: a plan cannot point out of what the site opened. What leads outside is refused in
 * one way, whether there is anything or not: what it leads to is not looked at.
 */
export async function readUnder(folder: string, file: string): Promise<Uint8Array> {
  const todo = "Set dataFolder in the site's policy.json";
  demand(
    folder !== "",
    () => new Fault("refused", "policy, data folder", { expected: "one", got: "none", todo }),
  );
  demand(staysInside(file), () => outside(file));
  const root = await realpath(folder).catch((cause) => {
    throw new Fault("not-found", "data folder", { expected: "a folder", got: "none", todo, cause });
  });
  const target = await follow(file, { given: resolve(folder), root });
  demand(target !== root, () => outside(file));
  return await readFile(target).catch((cause) => {
    throw absent(file, cause);
  });
}

const outside = (file: string) =>
  new Fault("refused", file, { expected: "a file inside the data folder", got: "one outside" });

const absent = (file: string, cause: unknown) =>
  new Fault("not-found", file, { expected: "a file in the data folder", got: `${cause}`, cause });

/** More than any system follows. */
const MAX_LINKS = 40;

/**
 * Where a path leads, one name and one link after another, so that none beyond the root is touched. `given`
 * is the root as it was named: a link may say either.
 * @throws Fault("refused") for the first step that leaves the root.
 */
async function follow(file: string, { given, root }: { given: string; root: string }): Promise<string> {
  const names = file.split("/");
  let at = root;
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === "" || name === ".") continue;
    const next = join(at, name);
    demand(isIn(root, next), () => outside(file));
    at = next;
    // What is gone, or no folder, is so inside the root.
    const found = await lstat(next).catch((cause) => {
      throw absent(file, cause);
    });
    if (!found.isSymbolicLink()) continue;
    links += 1;
    demand(links <= MAX_LINKS, () => outside(file));
    const says = await readlink(next);
    const from = isAbsolute(says) ? [given, root].find((one) => isIn(one, resolve(says))) : dirname(next);
    demand(from !== undefined, () => outside(file));
    names.unshift(...(isAbsolute(says) ? relative(from, resolve(says)) : says).split(sep));
    at = isAbsolute(says) ? root : from;
  }
  return at;
}

function isIn(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}
