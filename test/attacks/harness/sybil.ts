import type { Outcome } from "../scenario.ts";
import type { Attempt } from "./attempt.ts";
import type { Corrupt } from "./corrupt.ts";
import type { Lab } from "./lab.ts";

/**
 * The victim among three, and the two others are the attacker's, whatever they pass for: it holds t = 2
 * shares of each of the victim's secrets as soon as they are out, and every pair mask.
 */
export async function surrounded(lab: Lab, corrupt: readonly Corrupt[]): Promise<Outcome> {
  lab.corrupt = [...corrupt];
  return await surroundedIn(lab, await lab.begin());
}

export async function surroundedIn(lab: Lab, attempt: Attempt): Promise<Outcome> {
  await attempt.share(lab.victim);
  await attempt.mask(lab.victim, attempt.delivery("victim", lab.names));
  const seed = await attempt.secret("seed", "victim", []);
  const bare = attempt.bare("victim", { seed, pairs: attempt.corruptPairs("victim") });
  return await lab.bared(bare, "surrounded");
}
