import { fromUtf8, utf8 } from "@tutti/foundation/bytes";
import { Fault, type FaultCode, type FaultDetail } from "@tutti/foundation/fault";

/** Trailing metadata key under which a Fault travels whole, since several codes share one gRPC status. */
export const FAULT_METADATA = "tutti-fault-bin";

/** gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html) that each Fault travels as. */
const GRPC_CODES = {
  "bad-input": 3, // INVALID_ARGUMENT
  "bad-message": 3,
  unsupported: 12, // UNIMPLEMENTED
  refused: 7, // PERMISSION_DENIED
  "not-found": 5,
  conflict: 10, // ABORTED
  unavailable: 14,
  deadline: 4, // DEADLINE_EXCEEDED
  "below-threshold": 9, // FAILED_PRECONDITION
  failed: 9,
  cancelled: 1,
  // UNKNOWN: an error from storage means "unknown", never "no" (docs/reliability.md, promise 1).
  storage: 2,
  // INTERNAL: a bug on the other side; says nothing of what it was.
  internal: 13,
} as const satisfies Record<FaultCode, number>;

/** Back, for a status that carries no Fault: from gRPC itself, a proxy, or a bug. */
const FAULT_CODES: Readonly<Record<number, FaultCode>> = {
  1: "cancelled",
  2: "storage",
  3: "bad-input",
  4: "deadline",
  5: "not-found",
  6: "conflict",
  7: "refused",
  // RESOURCE_EXHAUSTED is what grpc-js says of a message above the limit; sending it again cannot help.
  8: "bad-message",
  9: "below-threshold",
  10: "conflict",
  11: "bad-input",
  12: "unsupported",
  // A bug travels as a Fault. Without one, INTERNAL is what grpc-js says of a stream that ended without a
  // status, as when a proxy restarts: worth another try.
  13: "unavailable",
  14: "unavailable",
  15: "storage",
  16: "refused",
};

/** A header block is 16 KiB at most in many proxies; base64 and four fields stay far below. */
const MAX_FIELD_CHARS = 500;
const MAX_FAULT_BYTES = 16 << 10;

/** The longest that one answer may send anybody away for. */
export const MAX_RETRY_AFTER_MS = 600_000;

/** The gRPC status number of a Fault's code. */
export function grpcCodeOf(code: FaultCode): number {
  return GRPC_CODES[code];
}

/** A Fault as it travels: its code and sentence parts, never its cause. */
export function faultBytes(fault: Fault): Uint8Array {
  const { expected, got, todo, retryAfterMs } = fault.detail;
  const fields = { code: fault.code, what: fault.what, expected, got, todo, retryAfterMs };
  return utf8(JSON.stringify(fields, (_key, value) => clip(value)));
}

/**
 * The Fault behind a gRPC status: the one the server sent, else the nearest to the status number.
 * Whatever the bytes hold, this returns: they come from another party. `address` is whom the caller meant.
 */
export function faultFromGrpc(status: {
  code: number;
  details: string;
  fault?: Uint8Array | undefined;
  address?: string | undefined;
}): Fault {
  const sent = status.fault && parseFault(status.fault);
  if (sent) return sent;
  const code = FAULT_CODES[status.code] ?? "unavailable";
  return unanswered(code, clipText(status.details), status.address);
}

/** A status without a Fault: the transport's own words, the commonest in ours. */
function unanswered(code: FaultCode, details: string, address: string | undefined): Fault {
  const refused = /ECONNREFUSED (\S*\w)/.exec(details);
  if (refused) {
    const todo = "Is the coordinator running (`tutti serve`), and is this its address?";
    return new Fault(code, `coordinator at ${refused[1]}`, {
      expected: "an answer",
      got: "nothing listens there",
      todo,
    });
  }
  const late = /^Deadline exceeded after ([\d.]+)s/.exec(details);
  if (late) {
    const at = /remote_addr=([^,\s]+)/.exec(details)?.[1] ?? address;
    // Otherwise no connection ever took it; one that did may have been lost since.
    const isSent = /remote_addr=|previous attempts/.test(details);
    const why = "Is it stopped or overloaded, or the network cut?";
    return new Fault(code, at ? `coordinator at ${at}` : "coordinator", {
      expected: `${isSent ? "an answer" : "a connection"} within ${told(Number(late[1]))}`,
      got: "none",
      todo: isSent ? `${why} What was asked for may have been done` : why,
    });
  }
  if (/self-signed certificate|certificate/.test(details)) {
    return new Fault(code, OTHER_CERTIFICATE, { expected: "the certificate that is pinned", got: "another" });
  }
  return new Fault(code, details.replace(/\s*Resolution note:\s*$/, "") || "call failed");
}

/** In a unit in which it is not 0. */
function told(seconds: number): string {
  const ms = Math.max(1, Math.round(seconds * 1000));
  return ms < 1000 ? `${ms} ms` : `${Math.round(ms / 100) / 10} s`;
}

const OTHER_CERTIFICATE = "coordinator's TLS certificate";

/** Whether a call failed since the coordinator showed a certificate that is not pinned. */
export function isOtherCertificate(error: unknown): boolean {
  for (let at = error; at instanceof Fault; at = at.detail.cause)
    if (at.what === OTHER_CERTIFICATE) return true;
  return false;
}

/**
 * Of a coordinator that runs and does not lead: where it says that the leader is, null where it knows none.
 * Undefined of whatever else went wrong.
 */
export function leaderBehind(error: unknown): string | null | undefined {
  if (!(error instanceof Fault) || error.detail.expected !== THE_LEADER) return undefined;
  return /^Ask (\S+:\d+)$/.exec(error.detail.todo ?? "")?.[1] ?? null;
}

/** What a standby expects whoever asks to ask for (lead/gate.ts). */
const THE_LEADER = "the one that leads";

function parseFault(bytes: Uint8Array): Fault | undefined {
  if (bytes.length > MAX_FAULT_BYTES) return undefined;
  try {
    const fields: unknown = JSON.parse(fromUtf8(bytes));
    if (typeof fields !== "object" || fields === null) return undefined;
    const { code, what, ...rest } = fields as Record<string, unknown>;
    if (!isFaultCode(code) || typeof what !== "string") return undefined;
    return new Fault(code, clipText(what), detailOf(rest));
  } catch {
    return undefined;
  }
}

function detailOf(fields: Record<string, unknown>): FaultDetail {
  const detail: FaultDetail = {};
  for (const key of ["expected", "got", "todo"] as const) {
    const value = fields[key];
    if (typeof value === "string") detail[key] = clipText(value);
  }
  const { retryAfterMs } = fields;
  if (typeof retryAfterMs === "number" && retryAfterMs >= 0 && retryAfterMs <= MAX_RETRY_AFTER_MS)
    detail.retryAfterMs = retryAfterMs;
  return detail;
}

function isFaultCode(code: unknown): code is FaultCode {
  return typeof code === "string" && Object.hasOwn(GRPC_CODES, code);
}

function clip(value: unknown): unknown {
  return typeof value === "string" ? clipText(value) : value;
}

function clipText(text: string): string {
  return text.length > MAX_FIELD_CHARS ? `${text.slice(0, MAX_FIELD_CHARS)}…` : text;
}
