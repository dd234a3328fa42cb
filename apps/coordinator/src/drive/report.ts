import { asFault, Fault } from "@tutti/foundation/fault";

/** Where a coordinator says what went wrong that no caller hears of: one JSON object a line. */
export type Report = (line: string) => void;

const FIRST_MS = 250;
const LONGEST_MS = 5_000;
const MAX_CHARS = 500;

/** How long to wait after so many failures in a row (from 1). */
export function backOffMs(failures: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 10));
}

/**
 * An error as a line: what was being done, the Fault's code and sentence, what caused it, when it is tried
 * again; of a bug also where. Never what was being written.
 */
export function trouble(
  error: unknown,
  about: { at: number; run: string; doing: string; againMs?: number },
): string {
  const { code, message, cause } = asFault(error);
  const stack = error instanceof Fault ? undefined : (error as Error | undefined)?.stack;
  const because = error instanceof Fault && cause instanceof Error ? cause.message : undefined;
  return JSON.stringify({
    at: new Date(about.at).toISOString(),
    run: about.run.slice(0, 12),
    doing: about.doing,
    code,
    error: message.slice(0, MAX_CHARS),
    because: because?.slice(0, MAX_CHARS),
    stack: stack?.slice(0, 4 * MAX_CHARS),
    againMs: about.againMs,
  });
}

/** A share that fits nothing, with who revealed it: the sum did without it. */
export function lied(
  { liar, of }: { liar: string; of: string },
  { at, run }: { at: number; run: string },
): string {
  const { code, message } = new Fault("refused", `share of ${of} revealed by ${liar}`, {
    expected: `one that fits what ${of} published`,
    got: "another",
  });
  return JSON.stringify({
    at: new Date(at).toISOString(),
    run: run.slice(0, 12),
    doing: "unmasking",
    code,
    error: message,
  });
}
