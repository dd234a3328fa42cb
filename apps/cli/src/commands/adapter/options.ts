import type { GivenNames } from "@tutti/adapter/find/candidates";
import { Fault } from "@tutti/foundation/fault";
import type { Command } from "commander";
import { integerIn, positive } from "../../action.ts";
import { readOrSay } from "../../prepare.ts";

/** What files of some formats do not say. */
export type HeadOptions = { readonly heads?: number; readonly kvHeads?: number; readonly alpha?: number };

export function headOptions(command: Command): Command {
  const heads = integerIn(1, 65_536);
  return command
    .option("--heads <number>", "attention heads of a llama base, which GGUF orders rows by", heads)
    .option("--kv-heads <number>", "its heads of keys and values (default: as many)", heads)
    .option("--alpha <number>", "the adapter's alpha, for a file that does not say it", positive);
}

/** Options of commands that bind an adapter to a base. */
export type NameOptions = { readonly names?: string };

export function nameOptions(command: Command): Command {
  return command.option(
    "--names <file>",
    "JSON of module names by node name (or first output), for a base whose own names do not do",
  );
}

/** @throws Fault("bad-input") unless the file is a JSON object of strings. */
export async function givenNames({ names: path }: NameOptions): Promise<GivenNames> {
  if (path === undefined) return {};
  const text = new TextDecoder().decode(await readOrSay(path, "names"));
  const names = parsed(text);
  if (names && Object.values(names).every((name) => typeof name === "string")) return names as GivenNames;
  throw new Fault("bad-input", `names ${path}`, { expected: "a JSON object of strings", got: "other text" });
}

function parsed(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
