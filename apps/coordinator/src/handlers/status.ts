import { fewestDevices } from "@tutti/plan/cohort";
import { stageNow } from "@tutti/round/cohorts";
import { IneligibleSchema, type RunStatus, RunStatusSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";

/** So many devices are listed that have nothing to do with the run; of more, those that serve it. */
const MOST_LISTED = 100;

/** How a run is doing: its round, who serves it, and why others do not. */
export function statusOf(coordinator: Coordinator, driver: Driver): RunStatus {
  const { header, round, options } = driver;
  const { run, plan } = options;
  const { presence, schedule, standings } = coordinator.dispatch;
  const ineligible = standings.reasons(run);
  return create(RunStatusSchema, {
    run,
    name: plan.name,
    state: header.state,
    reason: header.reason,
    round: header.round,
    rounds: plan.rounds,
    attempt: header.attempt,
    phase: round?.phase === "summing" ? stageNow(round.cohorts) : (round?.phase ?? ""),
    history: header.history,
    earlier: header.earlier,
    devices: devicesOf(coordinator, driver),
    here: presence.count,
    eligible: schedule.eligible(run),
    needed: fewestDevices(plan),
    ineligible: ineligible.map(([because, devices]) => create(IneligibleSchema, { because, devices })),
    waiting: whyWaiting(coordinator, driver),
  });
}

/** "2 of at least 3 eligible devices are here: 4 are not charging". */
function whyWaiting({ dispatch }: Coordinator, { round, options }: Driver): string {
  const { run, plan } = options;
  const { schedule } = dispatch;
  const [needed, eligible] = [fewestDevices(plan), schedule.eligible(run)];
  const free = schedule.serving(run).size;
  if (round?.phase !== "gathering" || free >= needed) return "";
  const others = dispatch.standings.out(run);
  if (eligible >= needed) others.unshift(`${eligible - free} serve other runs`);
  const said = `${Math.min(eligible, needed - 1)} of at least ${needed} eligible devices are here`;
  const short = eligible >= needed ? `${free} of at least ${needed} devices are free` : said;
  return others.length > 0 ? `${short}; ${others.join("; ")}` : short;
}

function devicesOf({ dispatch }: Coordinator, { round, options }: Driver): RunStatus["devices"] {
  const { presence, schedule } = dispatch;
  const own = [...schedule.serving(options.run), ...(round?.invited ?? [])];
  const others = presence.count <= MOST_LISTED ? presence.present() : [];
  return [...new Set([...own, ...others])].sort().map((device) => {
    const { run: about, activity = "", progress = 0, declined = "" } = presence.activities.get(device) ?? {};
    const run = schedule.serves(device) ?? "";
    return {
      $typeName: "tutti.v1.DeviceActivity",
      device,
      run,
      activity,
      progress,
      declined: about === options.run ? declined : "",
      connected: presence.isConnected(device),
    };
  });
}
