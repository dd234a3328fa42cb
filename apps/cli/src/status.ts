import type { RoundRecord, RunStatus } from "@tutti/wire/admin";

/**
 * One finished round for people. Round r evaluates the release that it starts from, on rows held out at the
 * sites.
 */
export function roundLine(record: RoundRecord, rounds: number): string {
  const { round, survivors, loss, accuracy, trainLoss } = record;
  const trained = record.release ? `  training loss ${trainLoss.toFixed(4)}` : "";
  return (
    `round ${String(round).padStart(String(rounds).length)}/${rounds}  ${survivors} devices  ` +
    `held-out loss ${loss.toFixed(4)}  accuracy ${accuracy.toFixed(4)}${trained}`
  );
}

/** A status as plain JSON. */
export function statusValue(status: RunStatus): Record<string, unknown> {
  const { run, name, state, reason, round, rounds, attempt, phase, history, devices } = status;
  return {
    run,
    name,
    state,
    reason,
    round,
    rounds,
    attempt,
    phase,
    history: history.map(({ $typeName: _, $unknown: __, ...record }) => record),
    devices: devices.map(({ $typeName: _, $unknown: __, ...device }) => device),
  };
}
