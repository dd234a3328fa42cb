/** Why a thing that may happen did not succeed. One flat list, so that callers can switch on it. */
export type FaultCode =
  | "bad-input" // a file, option or argument is not what it must be
  | "bad-message" // bytes from another party do not decode or break the protocol
  | "unsupported" // well formed, but outside what Tutti handles
  | "refused" // policy, signature, certificate, hash or version says no
  | "not-found"
  | "conflict" // already there, or another writer was first
  | "unavailable" // try again later
  | "deadline"
  | "below-threshold" // too few devices remain; nothing is revealed
  | "failed" // it was done, and came to no good end; asking again changes nothing
  | "cancelled"
  | "storage"
  | "internal"; // a bug, here or on the other side: the same call would fail again

/** Details that make a fault actionable: what was expected, what was found, what to do. */
export type FaultDetail = {
  expected?: string;
  got?: string;
  todo?: string;
  /** The same call may succeed after this long, and is not welcome earlier; whoever waits adds jitter. */
  retryAfterMs?: number;
  cause?: unknown;
};

/**
 * The one error class for what may happen; asserts (check.ts) are for what must not.
 * The message always reads `what: expected X, got Y. Do Z.`
 */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FaultCode;
  readonly what: string;
  readonly detail: FaultDetail;

  constructor(code: FaultCode, what: string, detail: FaultDetail = {}) {
    super(sentence(what, detail), detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.what = what;
    this.detail = detail;
  }
}

/**
 * Any thrown value as a Fault; what is not one already becomes `code` with the original as its cause: a bug,
 * unless the caller knows better.
 */
export function asFault(error: unknown, code: FaultCode = "internal"): Fault {
  if (error instanceof Fault) return error;
  return new Fault(code, error instanceof Error ? error.message : String(error), { cause: error });
}

function sentence(what: string, { expected, got, todo }: FaultDetail): string {
  const contrast = [expected && `expected ${expected}`, got && `got ${got}`].filter(Boolean).join(", ");
  const said = `${what}${contrast ? `: ${contrast}` : ""}`;
  return todo ? andThen(said, todo) : said;
}

/** What is said, then what to do. A sentence that is quoted at the end of the first needs no second end. */
export function andThen(said: string, todo: string): string {
  return `${said}${/[.?!]$/.test(said) ? "" : "."} ${todo}`;
}
