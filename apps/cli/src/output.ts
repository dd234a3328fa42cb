import { Fault, type FaultCode } from "@tutti/foundation/fault";
import { printableJson, printableLines } from "@tutti/foundation/text";

/*
 * Much of what is printed was written by others: devices, coordinators, files. None of it commands the
 * terminal.
 */

/** How a command speaks: sentences for people on stdout, or with --json one object on the last line. */
export type Output = {
  readonly json: boolean;
  /** A line for people; progress and side remarks go to stderr when stdout carries JSON. */
  say(line: string): void;
  /** The command's result: printed as JSON with --json, else only the sentence. */
  result(value: Readonly<Record<string, unknown>>, sentence: string): void;
};

export function outputOf(json: boolean): Output {
  return {
    json,
    say: (line) => void (json ? process.stderr : process.stdout).write(`${printableLines(line)}\n`),
    result: (value, sentence) =>
      void process.stdout.write(`${json ? jsonLine(value) : printableLines(sentence)}\n`),
  };
}

/** Exit codes, as printed at the end of `tutti --help`: scripts may rely on them. */
export const EXIT_CODES: Readonly<Record<FaultCode, number>> = {
  internal: 1,
  "bad-input": 2,
  "not-found": 3,
  refused: 4,
  conflict: 5,
  unavailable: 6,
  deadline: 7,
  "below-threshold": 8,
  "bad-message": 9,
  unsupported: 10,
  storage: 11,
  failed: 12,
  cancelled: 130,
};

/** Prints an error as a sentence (or JSON) on stderr and returns the exit code for it. */
export function reportFailure(error: unknown, json: boolean): number {
  if (!(error instanceof Fault)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const bug = { code: "internal", what: text };
    const line = json ? jsonLine({ error: bug }) : printableLines(`tutti: a bug: ${text}`);
    process.stderr.write(`${line}\n`);
    return EXIT_CODES.internal;
  }
  const { code, what, message } = error;
  const { expected, got, todo } = error.detail;
  const told = { code, what, expected, got, todo };
  const line = json ? jsonLine({ error: told }) : printableLines(`tutti: ${message}`);
  process.stderr.write(`${line}\n`);
  return EXIT_CODES[code];
}

function jsonLine(value: unknown): string {
  return printableJson(JSON.stringify(value));
}
