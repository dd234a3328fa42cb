import { fromHex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { parseJoinFile } from "@tutti/identity/join";
import type { Command } from "commander";
import { readOrSay } from "./prepare.ts";

export type AuthorityOptions = { authority?: string; join?: string };

/** The two ways to say whom to trust. */
export function withAuthority(command: Command): Command {
  return command
    .option("--authority <hex>", "the federation's public key")
    .option("--join <file>", "take the federation's public key from a join file");
}

/** The federation's public key that the options name, 32 bytes. @throws Fault("bad-input") for neither. */
export async function authorityOf({ authority, join }: AuthorityOptions, what: string): Promise<Uint8Array> {
  if (authority) return fromHex(authority, "authority");
  if (join) return parseJoinFile(new TextDecoder().decode(await readOrSay(join, "join file"))).authority;
  throw new Fault("bad-input", "authority", {
    expected: "--authority or --join",
    got: "neither",
    todo: `A ${what} proves nothing without a key that you trust beforehand`,
  });
}
