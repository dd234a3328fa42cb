import { utf8 } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import type { HeldRelease } from "../../src/store.ts";

/** A release whose every byte follows from its version, so that a mixture of two shows. */
export function releaseNumber(version: number): HeldRelease {
  const filled = (length: number) => new Uint8Array(length).fill(version % 251);
  return {
    digest: sha256Hex(utf8(`release ${version}`)),
    run: "r",
    version,
    manifest: `manifest of ${version}`,
    adapter: filled(20_000),
    model: filled(300_000),
  };
}
