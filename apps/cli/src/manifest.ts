import { envelopeFromJson } from "@tutti/release/envelope-json";
import { type OpenedRelease, openRelease } from "@tutti/release/manifest";
import { type AuthorityOptions, authorityOf } from "./authority.ts";
import { readOrSay } from "./prepare.ts";

/**
 * The release of a manifest.json, its certificate and signature checked against the authority that the
 * options name. @throws Fault("bad-input") for no authority, Fault("refused") for a manifest not of it.
 */
export async function openManifest(path: string, options: AuthorityOptions): Promise<OpenedRelease> {
  const authority = await authorityOf(options, "manifest");
  const envelope = envelopeFromJson(new TextDecoder().decode(await readOrSay(path, "manifest")));
  return openRelease(envelope, { authority, nowS: Math.floor(Date.now() / 1000) });
}
