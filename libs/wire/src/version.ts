import { Fault } from "@tutti/foundation/fault";
import { parseVersion } from "@tutti/foundation/version";

/** Of this code; devices and coordinators tell each other theirs (Hello). */
export const VERSION = "0.1.0";
/** Of whoever says none: it is from before versions were told. */
const UNTOLD = "0.1.0";

/**
 * Whether two versions understand each other: one minor back or ahead do, since fields are only ever added
 * and what is removed was out of use for a minor before. @throws Fault("unsupported") for any other, told by
 * either side; Fault("bad-message") for what is no version.
 */
export function mustUnderstand(who: string, theirs: string, ours: string = VERSION): void {
  const [major, minor] = parseVersion(`version of ${who}`, theirs || UNTOLD);
  const [ownMajor, ownMinor] = parseVersion("own version", ours);
  if (major === ownMajor && Math.abs(minor - ownMinor) <= 1) return;
  const behind = major < ownMajor || (major === ownMajor && minor < ownMinor);
  throw new Fault("unsupported", `version of ${who}`, {
    expected: `within one minor version of ${ours}`,
    got: theirs || UNTOLD,
    todo: behind ? `Update ${who}` : `Update the side that has ${ours}`,
  });
}
