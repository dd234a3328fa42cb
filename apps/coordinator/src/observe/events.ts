/** From the least to the most important. */
export const LEVELS = ["debug", "info", "warn", "error"] as const;
export type Level = (typeof LEVELS)[number];

type Meaning = readonly [level: Level, says: string];

/**
 * Every event that a coordinator logs, with its level and what whoever operates it should make of it. An
 * event that is not here cannot be logged; docs/operating.md prints this table, and a test holds them
 * together.
 */
export const EVENTS = {
  "serve.started": ["info", "It listens. Fields say where, and which store it has."],
  "key.open": [
    "warn",
    "Others than its user may read or change a private key (`file`, `mode`): chmod 600 it.",
  ],
  "tls.changed": [
    "info",
    "Another TLS certificate is shown from the next connection on. Fields say until when.",
  ],
  "tls.kept": ["warn", "Another TLS certificate could not be taken up; the old one stays. Fields say why."],
  "serve.stopping": ["info", "It was told to stop, and takes on nothing new."],
  "serve.stopped": ["info", "Everything that was acknowledged is durable; the process ends."],
  "lead.began": [
    "info",
    "Of several coordinators this one leads, under the epoch told, and answers devices and owners.",
  ],
  "lead.ended": [
    "warn",
    "It leads no more. `because` is `shutdown`; `lost`: another leads, or the database did not answer in " +
      "time; or `trouble`: it could not take up the runs.",
  ],
  "device.enrolled": ["info", "A site joined: its device has taken up its token and may take part."],
  "device.revoked": ["info", "An owner (`by`) revoked a device: it is out of every round and stays out."],
  "run.taken": [
    "info",
    "A run in progress goes on after a start or a takeover at its `round`, `attempt`, `phase`.",
  ],
  "run.resumed": [
    "info",
    "An owner (`by`) let a run that failed or was stopped go on, at its `round`, `attempt`.",
  ],
  "round.over": ["info", "A round ended with a result; `ms` from when this process saw it begin."],
  "round.failed": ["warn", "An attempt of a round ended by name (`reason`); the run tries again or is over."],
  "round.declined": [
    "info",
    "A device took no part in a round; `reason` is its own: its policy, its data or its state. Ask its site.",
  ],
  "run.over": ["info", "A run finished, failed or was stopped; `state` and `reason` say which and why."],
  "phase.over": ["debug", "A phase of a round, or a stage of its secure sum, ended."],
  "storage.failed": [
    "error",
    "The store failed. Devices are asked to repeat, nothing acknowledged is lost. Look at disk or database.",
  ],
  "round.retried": ["warn", "The last step of a round (unmask, step, publish) failed and is tried again."],
  "share.false": [
    "warn",
    "A device revealed a share that fits nothing; the sum did without it. Ask its site.",
  ],
  bug: ["error", "Something that must not happen did. Please report it with this line."],
  "traces.lost": ["warn", "The collector of `tracing.endpoint` did not take so many spans; rounds go on."],
  "log.lost": ["warn", "Nobody read stderr for long: so many lines (`count`) were left out."],
  "log.suppressed": ["warn", "The same line came too often and was left out `count` times within a minute."],
} as const satisfies Readonly<Record<string, Meaning>>;

export type EventName = keyof typeof EVENTS;
