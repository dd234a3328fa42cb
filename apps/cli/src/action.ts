import { Fault } from "@tutti/foundation/fault";
import { type Command, InvalidArgumentError } from "commander";
import { type Output, outputOf } from "./output.ts";

/**
 * What every command gets beside its own options: an output, and a signal that Ctrl-C aborts. A command that
 * asks for the signal has to end on it; one that does not is ended by the system, at once, also while it
 * computes and no listener of ours could run.
 */
export type Context = { readonly output: Output; readonly signal: AbortSignal };

/**
 * Runs a command's body with a context. Once it has asked for the signal, the first Ctrl-C (or SIGTERM)
 * aborts that, so that the command can stop what it started; a second one ends the process at once.
 * @throws Fault("cancelled") where the body ends by the signal's own error.
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
  let listening = false;
  const { json = false } = command.optsWithGlobals<{ json?: boolean }>();
  const context: Context = {
    output: outputOf(json),
    get signal() {
      if (!listening) for (const name of STOPS) process.on(name, stop);
      listening = true;
      return abort.signal;
    },
  };
  try {
    await body(context);
  } catch (cause) {
    if (!abort.signal.aborted || cause !== abort.signal.reason) throw cause;
    throw new Fault("cancelled", "stopped before the end", { cause });
  } finally {
    for (const name of STOPS) process.off(name, stop);
  }
}

const STOPS = ["SIGINT", "SIGTERM"] as const;

/** Does work that must not end halfway: a Ctrl-C that comes meanwhile takes effect after it. */
export async function undisturbed<T>(work: () => Promise<T>): Promise<T> {
  const came: NodeJS.Signals[] = [];
  const note = (name: NodeJS.Signals) => void came.push(name);
  for (const name of STOPS) process.on(name, note);
  try {
    return await work();
  } finally {
    for (const name of STOPS) process.off(name, note);
    if (came[0] !== undefined && process.listenerCount(came[0]) === 0) process.kill(process.pid, came[0]);
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

/** Parses an option that must be a probability above 0 and below 1. */
export function chance(text: string): number {
  const value = Number(text);
  if (value > 0 && value < 1) return value;
  throw new InvalidArgumentError("Expected a number above 0 and below 1.");
}
