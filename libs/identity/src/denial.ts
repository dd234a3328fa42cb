import { Fault } from "@tutti/foundation/fault";
import { NAME } from "./name.ts";

/**
 * Why a coordinator takes nothing of a device whose signature is good, or whose name nobody knows. Each is a
 * Fault("refused") that says what to do; `denialOf` tells them apart, also after they travelled.
 */
export type Denial = "expired" | "revoked" | "unknown";

const TODO: Readonly<Record<Denial, string>> = {
  expired:
    "It asks for a new one by itself, signed with `tutti authority sign`. If it has been away " +
    "for too long, ask the operator for a join file under a new name",
  revoked: "Ask the federation's operator; to come back takes a join file under a new name",
  unknown:
    "Join with a join file. A device that joined before was lost by the coordinator: tell its operator",
};
const EXPECTED: Readonly<Record<Denial, string>> = {
  expired: "a certificate that is still valid",
  revoked: "a device of the federation",
  unknown: "an enrolled name",
};
const WHAT = /^device [A-Za-z0-9._-]{1,64}: (expired|revoked|unknown)$/;

/** `got` where there is more to say than the word itself. */
export function denied(name: string, why: Denial, got?: string): Fault {
  const shown = NAME.test(name) ? name : "another";
  return new Fault("refused", `device ${shown}: ${why}`, {
    expected: EXPECTED[why],
    got: got ?? (why === "unknown" ? "another" : `one that ${why === "revoked" ? "was " : ""}${why}`),
    todo: TODO[why],
  });
}

/** Null for any other fault. */
export function denialOf({ code, what }: Pick<Fault, "code" | "what">): Denial | null {
  const [, why] = (code === "refused" && WHAT.exec(what)) || [];
  return (why as Denial | undefined) ?? null;
}
