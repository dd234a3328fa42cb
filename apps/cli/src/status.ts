import { printable } from "@tutti/foundation/text";
import type { DeviceActivity, RoundRecord, RunStatus } from "@tutti/wire/admin";

/**
 * One finished round for people. Round r evaluates the release that it starts from, on rows held out at the
 * sites.
 */
export function roundLine(record: RoundRecord, rounds: number): string {
  const { round, loss, accuracy, trainLoss } = record;
  const trained = record.release ? `  training loss ${trainLoss.toFixed(4)}` : "";
  // Under noise these are what the noise left of them.
  const noised = record.rho > 0 ? `  (noised; ε ${record.epsilon.toPrecision(4)} so far)` : "";
  return (
    `round ${String(round).padStart(String(rounds).length)}/${rounds}  ${devicesOf(record)}  ` +
    `held-out loss ${loss.toFixed(4)}  accuracy ${accuracy.toFixed(4)}${trained}${noised}`
  );
}

/** How many were in the sum, or of several cohorts in each that counted, and why another did not. */
function devicesOf({ survivors, cohorts }: RoundRecord): string {
  if (cohorts.length < 2) return `${survivors} devices`;
  const sizes = cohorts.filter(({ dropped }) => dropped === "").map(({ size }) => size);
  const lost = cohorts.flatMap(({ dropped }, at) => {
    return dropped ? [`cohort ${at + 1} of ${cohorts.length} dropped, ${printable(dropped)}`] : [];
  });
  return [`${sizes.join("+")} devices`, ...lost].join("; ");
}

/** What is said in the place of records that are no more. */
export function goneLine(earlier: number): string {
  const what = earlier === 1 ? "the first record is" : `the first ${earlier} records are`;
  return `${what} gone: the coordinator keeps the newest rounds only (retention.rounds of tutti.json)`;
}

/** A run in one line: where it is, what it waits for. */
export function statusLine({ run, name, state, round, rounds, phase, reason, waiting }: RunStatus): string {
  const where = state === "running" ? `round ${round} of ${rounds}, ${phase}` : state;
  // Of a run in progress it is that of the attempt before.
  const failed = state === "running" && reason ? `failed before: ${reason}` : reason;
  const why = [waiting, failed].filter(Boolean).join("; ");
  return printable(`${name} (${run.slice(0, 12)}): ${where}${why ? ` (${why})` : ""}`);
}

/** A device for people: "ann: serves 1a2b3c4d5e6f, training 40 %", "bob: declined: policy, …". */
export function deviceLine({ device, connected, run, activity, progress, declined }: DeviceActivity): string {
  if (connected && declined) return printable(`  ${device}: declined: ${declined}`);
  const serves = run ? `serves ${run.slice(0, 12)}` : "serves no run";
  const does = activity ? `, ${activity} ${Math.round(progress * 100)} %` : "";
  return printable(`  ${device}: ${connected ? serves : "away"}${connected && run ? does : ""}`);
}

/** A status as plain JSON. */
export function statusValue(status: RunStatus): Record<string, unknown> {
  const { run, name, state, reason, round, rounds, attempt, phase, earlier, history } = status;
  const { devices, here, eligible, needed, ineligible, waiting } = status;
  return {
    run,
    name,
    state,
    reason,
    round,
    rounds,
    attempt,
    phase,
    earlier,
    history: history.map(recordValue),
    devices: devices.map(bare),
    here,
    eligible,
    needed,
    ineligible: ineligible.map(bare),
    waiting,
  };
}

/** Another run than the one that is told in full. */
export function briefValue({ run, name, state, reason, round, rounds, phase, waiting }: RunStatus) {
  return { run, name, state, reason, round, rounds, phase, waiting };
}

/** Without noise there is no ε: null, not 0. */
function recordValue(record: RoundRecord) {
  const { rho, epsilon, ...rest } = bare(record);
  const privacy = rho > 0 ? { rho, epsilon } : null;
  return { ...rest, privacy, cohorts: record.cohorts.map(bare) };
}

function bare<M extends { $typeName: string; $unknown?: unknown }>({
  $typeName: _,
  $unknown: __,
  ...rest
}: M) {
  return rest;
}
