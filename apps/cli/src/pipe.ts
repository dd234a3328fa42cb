/** What a shell says of a process that SIGPIPE ended; Node itself ignores that signal. */
export const PIPE_CLOSED = 141;

/**
 * Whoever reads what this process writes may go before its end, as `head` does: no failure, and nobody is
 * left to tell. A command that stops on a signal, or must not end halfway, is told to stop; any other ends
 * at once. The function that is returned says whether that has happened.
 */
export function endsWithItsReader(): () => boolean {
  let gone = false;
  const lost = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    if (gone) return;
    gone = true;
    if (process.listenerCount("SIGTERM") === 0) process.exit(PIPE_CLOSED);
    process.kill(process.pid, "SIGTERM");
  };
  for (const stream of [process.stdout, process.stderr]) stream.on("error", lost);
  return () => gone;
}
