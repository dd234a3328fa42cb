import { type Command, InvalidArgumentError } from "commander";
import { integerIn } from "../../action.ts";

/** What files of some formats do not say. */
export type HeadOptions = { readonly heads?: number; readonly kvHeads?: number; readonly alpha?: number };

export function headOptions(command: Command): Command {
  const heads = integerIn(1, 65_536);
  return command
    .option("--heads <number>", "attention heads of a llama base, which GGUF orders rows by", heads)
    .option("--kv-heads <number>", "its heads of keys and values (default: as many)", heads)
    .option("--alpha <number>", "the adapter's alpha, for a file that does not say it", positive);
}

function positive(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError("Expected a number above 0.");
}
