import { Fault } from "./fault.ts";

/** A version of three numbers, as npm has them; what follows a dash or a plus says nothing of abilities. */
export type Version = readonly [major: number, minor: number, patch: number];

const VERSION = /^(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+][0-9A-Za-z.+-]{0,64})?$/;

/** @throws Fault("bad-message") naming `what`. */
export function parseVersion(what: string, text: string): Version {
  const found = VERSION.exec(text);
  if (!found)
    throw new Fault("bad-message", what, {
      expected: "a version such as 0.1.0",
      got: JSON.stringify(text.slice(0, 40)),
    });
  return [Number(found[1]), Number(found[2]), Number(found[3])];
}

/** Below 0 where `a` is older than `b`, above 0 where it is newer. */
export function compareVersions(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
