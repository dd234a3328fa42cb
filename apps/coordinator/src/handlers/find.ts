import { Fault } from "@tutti/foundation/fault";
import { cohortOf } from "@tutti/round/round";
import { isFor } from "@tutti/round/summing";
import type { UploadPart } from "@tutti/wire/secagg";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";

/**
 * The run that a message names. @throws Fault("conflict") by name for any round but its present one.
 */
export function runNow(
  coordinator: Coordinator,
  said: { run: string; round: number; attempt: number },
): Driver {
  const driver = coordinator.find(said.run);
  const spec = driver?.round?.spec;
  const now = spec && said.round === spec.task.round && said.attempt === spec.attempt;
  if (driver && now) return driver;
  throw new Fault("conflict", "message", {
    expected: spec
      ? `run ${said.run.slice(0, 12)} round ${spec.task.round} attempt ${spec.attempt}`
      : "a run in progress",
    got: `run ${said.run.slice(0, 12)} round ${said.round} attempt ${said.attempt}`,
  });
}

/** The run in whose round a session is. @throws Fault("conflict") where there is none. */
export function runOfSession(coordinator: Coordinator, session: Uint8Array): Driver {
  const driver = coordinator
    .drivers()
    .find(({ round }) => round?.cohorts.some(({ sum }) => isFor(sum, session)));
  if (driver) return driver;
  throw new Fault("conflict", "session", { expected: "one in progress", got: "another" });
}

/**
 * The run that a device's upload is for, and the upload whole again: its header names the session. @throws
 * Fault where the device is in no sum at all.
 */
export async function runOfUpload(
  coordinator: Coordinator,
  device: string,
  parts: AsyncIterable<UploadPart>,
): Promise<{ driver: Driver; whole: AsyncIterable<UploadPart> }> {
  const own = runsOf(coordinator, device);
  const rest = parts[Symbol.asyncIterator]();
  const first = await rest.next();
  const { part } = first.done ? {} : first.value;
  const named = part?.case === "header" ? part.value.session : new Uint8Array();
  const meant = own.find(({ round }) => round?.cohorts.some(({ sum }) => isFor(sum, named)));
  // Whatever is wrong with it, the one that it is in says so.
  const driver = meant ?? own[0];
  const whole = (async function* () {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => rest };
  })();
  return { driver, whole };
}

/** The runs in whose sums a device is: one, unless it lost touch with another before. */
function runsOf(coordinator: Coordinator, device: string): [Driver, ...Driver[]] {
  let refusal = new Fault("conflict", "upload", { expected: "a session that takes uploads", got: "none" });
  const own = coordinator.drivers().filter(({ round }) => {
    try {
      return round && cohortOf(round, device) !== null;
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      refusal = fault;
      return false;
    }
  });
  const [first, ...more] = own;
  if (first) return [first, ...more];
  throw refusal;
}
