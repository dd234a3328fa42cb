import { browserAgree } from "@tutti/client-sdk/browser/agree";
import { browserVerify } from "@tutti/client-sdk/browser/verify";
import { type Case, type Cost, costOf } from "./cost.ts";

export type PageCost = { readonly costs: readonly Cost[]; readonly webCrypto: readonly string[] };

/** What a page runs: the browser's own signatures and agreements where it has them, and the page's clock. */
export async function costsInPage(cases: readonly Case[]): Promise<PageCost> {
  const [verifyAll, agreeAll] = [await browserVerify(), await browserAgree()];
  const costs: Cost[] = [];
  for (const one of cases) {
    // Each with memories of its own, so that its first round is one.
    const platform = {
      ...(verifyAll && { verifyAll: (await browserVerify())! }),
      ...(agreeAll && { agreeAll }),
    };
    costs.push(await costOf(one, platform, () => performance.now()));
  }
  return { costs, webCrypto: [...(verifyAll ? ["Ed25519"] : []), ...(agreeAll ? ["X25519"] : [])] };
}
