// Holds the last line of `npm start -- --json` against what README promises of it.
import { readFileSync } from "node:fs";

const { base, local, federated, central, secureAggregation, seconds } = JSON.parse(readFileSync(0, "utf8"));
const best = Math.max(...Object.values(local).map(({ accuracy }) => accuracy));
const checks = {
  "summed securely": secureAggregation === true,
  "federated at least 0.95": federated.accuracy >= 0.95,
  "federated at least 0.10 above the best site alone": federated.accuracy - best >= 0.1,
  "federated within 0.03 of all data in one place": Math.abs(federated.accuracy - central.accuracy) <= 0.03,
};
console.log({ base: base.accuracy, best, federated: federated.accuracy, central: central.accuracy, seconds });
for (const [what, holds] of Object.entries(checks)) console.log(`${holds ? "yes" : "NO "} ${what}`);
process.exitCode = Object.values(checks).every(Boolean) ? 0 : 1;
