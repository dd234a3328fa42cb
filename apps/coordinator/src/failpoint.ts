import { appendFileSync } from "node:fs";
import { Fault } from "@tutti/foundation/fault";

/**
 * Every place between two effects of a coordinator where a test may end, stop, slow or fail it; nowhere else
 * is such a name written down. Read as `area.what.moment`; of a commit, `before` its transaction, `inside` it
 * when all is written, and once it is `durable`.
 */
export const FAILPOINTS = [
  "serve.begin",
  "serve.opened",
  "serve.resumed",
  "serve.listening",
  "serve.closing",
  "store.device.before",
  "store.device.inside",
  "store.device.durable",
  "store.revoke.before",
  "store.revoke.durable",
  "store.run.before",
  "store.run.inside",
  "store.run.durable",
  "store.running.before",
  "store.running.inside",
  "store.running.durable",
  "store.append.before",
  "store.append.inside",
  "store.append.durable",
  "store.sum.before",
  "store.sum.inside",
  "store.sum.durable",
  "store.close.before",
  "store.close.inside",
  "store.close.durable",
  "store.release.before",
  "store.release.inside",
  "store.release.durable",
  "artifact.begun",
  "artifact.written",
  "artifact.synced",
  "artifact.renamed",
  "artifact.durable",
  "enrol.checked",
  "enrol.durable",
  "revoke.durable",
  "revoke.expelled",
  "run.checked",
  "run.running",
  "run.driven",
  "run.stopping",
  "run.stopped",
  "run.resumed",
  "ack.recovered",
  "ack.connected",
  "ack.disconnected",
  "ack.tick",
  "ack.ready",
  "ack.declined",
  "ack.advertised",
  "ack.picked",
  "ack.shared",
  "ack.uploaded",
  "ack.attested",
  "ack.revealed",
  "ack.noise",
  "ack.broken",
  "ack.revoked",
  "round.told",
  "round.performing",
  "round.failing",
  "round.closed",
  "round.begun",
  "upload.received",
  "load.begin",
  "load.read",
  "load.replayed",
  "load.welcomed",
  "complete.begin",
  "complete.opened",
  "complete.stepped",
  "complete.state",
  "complete.sum",
  "complete.sums",
  "complete.transcript",
  "complete.adapter",
  "complete.signed",
  "complete.done",
  "keep.removing",
  "keep.removed",
  "keep.rows.inside",
  "keep.rows.durable",
  "keep.entries.inside",
  "keep.entries.durable",
] as const;

export type Failpoint = (typeof FAILPOINTS)[number];

/**
 * `kill`: SIGKILL, nothing runs after it. `stop`: SIGSTOP, until somebody continues the process. `error`:
 * storage that fails. `delay`: the whole process stands still for a moment.
 */
const ACTIONS = ["kill", "stop", "error", "delay"] as const;
type Action = (typeof ACTIONS)[number];

type Armed = { readonly name: Failpoint; readonly nth: number; readonly action: Action };

const DELAY_MS = 1_000;

/** What is armed; undefined, and so no cost, outside of tests. */
let watch: ((name: Failpoint) => void) | undefined;

/** A place that a test may name: nothing happens here otherwise. */
export function failpoint(name: Failpoint): void {
  watch?.(name);
}

/**
 * Arms what the environment names. TUTTI_FAILPOINT is a list, with commas, of `name`, `name:3` (its third
 * hit) or `name:3=action`; the action is `kill` where none is said. TUTTI_FAILPOINT_HITS is a file that gets
 * the name of every place at its first hit. @throws Fault("bad-input") for another name or action.
 */
export function armFailpoints(environment: Readonly<Record<string, string | undefined>>): void {
  const armed = (environment.TUTTI_FAILPOINT ?? "").split(",").filter(Boolean).map(parse);
  const file = environment.TUTTI_FAILPOINT_HITS;
  const hits = new Map<Failpoint, number>();
  const hit = (name: Failpoint) => {
    const nth = (hits.get(name) ?? 0) + 1;
    hits.set(name, nth);
    if (file && nth === 1) appendFileSync(file, `${name}\n`);
    for (const one of armed) if (one.name === name && one.nth === nth) act(one);
  };
  onFailpoint(armed.length > 0 || file ? hit : undefined);
}

/** Calls back at every place; what it throws is thrown there. One at a time, undefined ends it. */
export function onFailpoint(callback: ((name: Failpoint) => void) | undefined): void {
  watch = callback;
}

function parse(text: string): Armed {
  const [place = "", action = "kill"] = text.split("=");
  const [name = "", nth = "1"] = place.split(":");
  const wrong = (what: string, expected: string, got: string) =>
    new Fault("bad-input", `TUTTI_FAILPOINT ${what}`, { expected, got });
  if (!isOneOf(FAILPOINTS, name)) throw wrong("name", `one of ${FAILPOINTS.join(", ")}`, name);
  if (!isOneOf(ACTIONS, action)) throw wrong("action", `one of ${ACTIONS.join(", ")}`, action);
  if (!/^[1-9]\d{0,6}$/.test(nth)) throw wrong("hit", "a number from 1", nth);
  return { name, nth: Number(nth), action };
}

function isOneOf<T extends string>(all: readonly T[], text: string): text is T {
  return (all as readonly string[]).includes(text);
}

function act({ name, action }: Armed): void {
  switch (action) {
    case "kill":
      process.kill(process.pid, "SIGKILL");
      return;
    case "stop":
      process.kill(process.pid, "SIGSTOP");
      return;
    case "error":
      throw new Fault("storage", name, { got: "an error that a test asked for" });
    case "delay":
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, DELAY_MS);
  }
}
