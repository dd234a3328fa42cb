import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { OpenedRelease } from "./manifest.ts";

/**
 * A Fault("refused") unless `next` may follow `current`, the release a device holds for a run (null: none
 * yet, and any may come). No going back, no second content for a version, one run, one base, an unbroken
 * line. The same release again is accepted. A version that skips some is too, since a device may have slept;
 * its parents in between were not seen, so only that it has one can be checked.
 */
export function accept(current: OpenedRelease | null, next: OpenedRelease): void {
  if (current === null) return;
  const { release: held } = current;
  const { release } = next;
  const rule = (what: string, fine: boolean, detail: { expected: string; got: string }) => {
    demand(fine, () => new Fault("refused", `release ${release.version}, ${what}`, detail));
  };
  rule("run", release.run === held.run, { expected: held.run, got: release.run });
  const bases = { expected: held.base.sha256, got: release.base.sha256 };
  rule("base model", release.base.sha256 === held.base.sha256, bases);
  const versions = { expected: `at least ${held.version}`, got: `${release.version}` };
  rule("version", release.version >= held.version, versions);
  if (release.version === held.version) {
    rule("content", next.digest === current.digest, { expected: current.digest, got: next.digest });
    return;
  }
  const follows = release.version === held.version + 1;
  rule("parent", follows ? release.parent === current.digest : release.parent !== null, {
    expected: follows ? current.digest : "some release",
    got: release.parent ?? "none",
  });
}
