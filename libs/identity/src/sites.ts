import { Fault } from "@tutti/foundation/fault";
import type { Identity } from "./certificate.ts";

/**
 * That no site has more members among these than the authority allows it. Each certificate carries the limit
 * of its own site; where they differ, since one was made before the limit changed, the least counts.
 * @throws Fault("refused") naming the site.
 */
export function checkSites(members: Iterable<Pick<Identity, "site" | "siteLimit">>): void {
  const sites = new Map<string, { count: number; limit: number }>();
  for (const { site, siteLimit } of members) {
    if (site === "") continue;
    const { count, limit } = sites.get(site) ?? { count: 0, limit: Number.POSITIVE_INFINITY };
    sites.set(site, { count: count + 1, limit: Math.min(limit, siteLimit || Number.POSITIVE_INFINITY) });
  }
  for (const [site, { count, limit }] of sites) {
    if (count <= limit) continue;
    const detail = { expected: `at most ${limit} devices, as the authority signed`, got: `${count}` };
    throw new Fault("refused", `site ${site}`, detail);
  }
}
