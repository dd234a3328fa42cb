import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { checkArtifact } from "@tutti/release/manifest";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { type AuthorityOptions, withAuthority } from "../authority.ts";
import { openManifest } from "../manifest.ts";
import { readOrSay } from "../prepare.ts";

type Options = AuthorityOptions & { adapter?: string; base?: string };

export function verifyCommand(): Command {
  return withAuthority(new Command("verify"))
    .description("Check a release's manifest: certificate, signature, and the files it names.")
    .argument("<manifest>", "manifest.json of a release")
    .option("--adapter <file>", "also check this file, adapter.safetensors of a saved release")
    .option("--base <file>", "also check this base model against the manifest")
    .action((path: string, options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const { release, digest } = await openManifest(path, options);
        if (options.adapter) checkArtifact(await readOrSay(options.adapter, "adapter"), release.adapter);
        if (options.base) checkBase(await readOrSay(options.base, "base model"), release.base.sha256);
        const checked = [
          "certificate",
          "signature",
          ...(options.adapter ? ["adapter"] : []),
          ...(options.base ? ["base"] : []),
        ];
        output.result(
          { good: true, checked, digest, release },
          `good: ${checked.join(", ")} of version ${release.version}`,
        );
      }),
    );
}

function checkBase(bytes: Uint8Array, expected: string): void {
  const got = sha256Hex(bytes);
  if (got !== expected) throw new Fault("refused", "base model", { expected: `SHA-256 ${expected}`, got });
}
