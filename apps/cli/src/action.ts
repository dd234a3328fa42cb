import type { Command } from "commander";
import { type Output, outputOf } from "./output.ts";

/** What every command gets beside its own options: an output, and a signal that Ctrl-C aborts. */
export type Context = { readonly output: Output; readonly signal: AbortSignal };

/**
 * Runs a command's body with a context. The first Ctrl-C (or SIGTERM) aborts the signal, so that the command can
 * stop what it started; a second one ends the process at once.
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
