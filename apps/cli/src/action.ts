import { type Command, InvalidArgumentError } from "commander";
import { type Output, outputOf } from "./output.ts";

/** What every command gets beside its own options: an output, and a signal that Ctrl-C aborts. */
export type Context = { readonly output: Output; readonly signal: AbortSignal };

/**
 * Runs a command's body with a context. The first Ctrl-C (or SIGTERM) aborts the signal, so that the command
 * can stop what it started; a second one ends the process at once.
 */
export async function withContext(
  command: Command,
  body: (context: Context) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const stop = () => {
    if (abort.signal.aborted) process.exit(130);
    abort.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    const { json = false } = command.optsWithGlobals<{ json?: boolean }>();
    await body({ output: outputOf(json), signal: abort.signal });
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}

/** Parses an option that must be an integer in [low, high]. */
export function integerIn(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`Expected an integer in ${low}..${high}.`);
  };
}

/** Parses an option that must be a number above 0. */
export function positive(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError("Expected a number above 0.");
}
