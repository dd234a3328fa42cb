import { Fault } from "@tutti/foundation/fault";
import type { Plan } from "@tutti/plan/plan";
import { judge } from "@tutti/round/eligible";
import { type DeviceState, DeviceStateSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { VERSION } from "@tutti/wire/version";
import type { Site } from "./site.ts";

/** What an app knows of the machine it runs on; what it leaves out is unknown. Never anything about data. */
export type OwnState = {
  readonly charging?: boolean;
  /** On a connection that does not cost by the byte. */
  readonly unmetered?: boolean;
  /** Nobody uses the machine. */
  readonly idle?: boolean;
};

/** As the coordinator is told it, for runs that ask for it; a provider that fails knows nothing. */
export async function stateOf({
  state,
  engines = [],
}: Pick<Site, "state" | "engines">): Promise<DeviceState> {
  const own: OwnState = await Promise.resolve()
    .then(() => state?.() ?? {})
    .catch(() => ({}));
  const { charging, unmetered, idle } = own;
  const said = Object.entries({ charging, unmetered, idle }).filter(
    ([, value]) => typeof value === "boolean",
  );
  return create(DeviceStateSchema, { ...Object.fromEntries(said), sdk: VERSION, engines: [...engines] });
}

/**
 * The plan's conditions that this device checks itself: its rows, whose number it tells nobody, and its state
 * now. @throws Fault("refused") whose subject, all that leaves the site, is the same for each of them.
 */
export async function mustBeEligible(
  { eligibility }: Pick<Plan, "eligibility">,
  site: Pick<Site, "state" | "engines">,
  rows: number,
): Promise<void> {
  if (!eligibility) return;
  const { labels: _, participation: __, minExamples = 0, ...asked } = eligibility;
  if (rows < minExamples)
    throw new Fault("refused", "eligibility", { expected: `at least ${minExamples} rows`, got: `${rows}` });
  const facts = { labels: {}, state: await stateOf(site) };
  const { because } = judge(asked, facts, { past: undefined, round: 0, wallMs: 0 });
  if (because)
    throw new Fault("refused", "eligibility", { expected: "what the plan asks for", got: because });
}
