import { fileURLToPath } from "node:url";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import type { Claim } from "../claim.ts";
import { CHROMIUM, inChromium } from "../support/chromium.ts";
import { type Case, type Cost, costOf } from "../support/secagg/cost.ts";
import type { PageCost } from "../support/secagg/cost-page.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PAGE = fileURLToPath(new URL("../support/secagg/cost-page.ts", import.meta.url));
const MOST = 2;
/** The sparse one has k = 82 and t = 57 by the finder, for a tenth of each kind. */
const CASES = {
  full: { n: 100, length: 1e6, bits: 16, rounds: 7 },
  sparse: { n: 500, length: 1e5, bits: 16, rounds: 7 },
} as const satisfies Record<string, Case>;

export const claim: Claim = {
  name: "secagg/device-cost",
  target:
    "one device's whole part in a secure sum on one core, peers known from an earlier round: at most " +
    `${MOST.toFixed(1)} times the ChaCha20 streams it needs by the kernel in the same run, for 100 members ` +
    "on the full graph with 10^6 words and for 500 on the sparse graph with 10^5, in Node (CPU time) and " +
    "in headless Chromium (the page's clock); the first round beside it",
  async run(report) {
    const inNode: Record<string, Cost> = {};
    for (const [name, one] of Object.entries(CASES)) {
      inNode[name] = await costOf(one, { verify: nativeVerify(), agree: nativeAgree }, cpuMs);
      report(`Node, ${name}: ${JSON.stringify(inNode[name])}`);
    }
    const page = CHROMIUM ? await onPage() : null;
    report(
      page
        ? `Chromium: ${JSON.stringify(page)}`
        : "no Chromium in /usr/bin: a half of the claim is not measured",
    );
    const ratios = {
      node: ratiosOf(Object.values(inNode)),
      chromium: page ? ratiosOf(page.costs) : null,
    };
    const all = [...Object.values(ratios.node), ...Object.values(ratios.chromium ?? {})];
    const tooDear = all.filter((ratio) => ratio > MOST).length;
    const chromium = page && { webCrypto: page.webCrypto, ...named(page.costs) };
    const figures = { ratios, aboveTarget: tooDear, node: inNode, chromium };
    return { figures, holds: page !== null && tooDear === 0 };
  },
};

/** User and system time of this process, its helper threads too: others on the machine are not in it. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function onPage(): Promise<PageCost> {
  return await inChromium(PAGE, `page.costsInPage(${JSON.stringify(Object.values(CASES))})`, ROOT);
}

function named<T>(values: readonly T[]): Record<string, T> {
  return Object.fromEntries(Object.keys(CASES).map((name, at) => [name, values[at]!]));
}

function ratiosOf(costs: readonly Cost[]): Record<string, number> {
  return named(costs.map(({ ratio }) => ratio));
}
