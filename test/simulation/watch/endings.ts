import type { DeviceEvent } from "@tutti/client-sdk/events";
import type { Driver } from "@tutti/coordinator/drive/driver";
import type { Fault } from "@tutti/foundation/fault";
import type { DescMethod } from "@tutti/wire/rpc";
import { Violation, type Watcher } from "../witness.ts";
import type { World } from "../world.ts";

/** Promise 2's own: past its deadline by no more than this. */
const SLACK_MS = 5_000;
/** How long a device that vanished may be waited for: a grace period, and time to write it down. */
const GONE_MS = 5_000;
/** Devices of before a crash are waited for so long (drive/driver.ts, RECONNECT_MS). */
const RECONNECT_MS = 12_000;

/** Promise 2: a round always ends, in time, and nobody who vanished holds it up; and nothing is a bug. */
export class Endings implements Watcher {
  #servedMs = 0;
  #runs = 0;
  #troubledMs = Number.NEGATIVE_INFINITY;
  /** Since when each device has no stream of words, as the coordinator sees it. */
  readonly #away = new Map<string, number>();
  readonly #lines = new Map<string, number>();
  readonly #since = new Map<string, { readonly phase: unknown; readonly sinceMs: number }>();

  served({ timeline }: World): void {
    this.#servedMs = timeline.nowMs;
    this.#away.clear();
    this.#lines.clear();
    this.#since.clear();
  }

  storageFailed({ timeline }: World): void {
    this.#troubledMs = timeline.nowMs;
  }

  listening({ timeline }: World, device: string, here: boolean): void {
    const lines = Math.max(0, (this.#lines.get(device) ?? 0) + (here ? 1 : -1));
    this.#lines.set(device, lines);
    if (lines > 0) this.#away.delete(device);
    else this.#away.set(device, timeline.nowMs);
  }

  reported(_world: World, line: string): void {
    const { event, code } = JSON.parse(line) as { event: string; code?: string };
    if (event === "bug" || code === "internal") throw new Violation(`a bug: ${line}`);
  }

  refused(_world: World, from: string, { method, fault }: { method: DescMethod; fault: Fault }): void {
    if (fault.code === "internal") throw bug(`${method.localName} of ${from}`, fault);
  }

  stopped(_world: World, device: string, fault: Fault): void {
    if (fault.code === "internal") throw bug(device, fault);
  }

  event(_world: World, device: string, event: DeviceEvent): void {
    if (event.kind === "refused" && event.because.code === "internal") throw bug(device, event.because);
  }

  check({ process, timeline, storage }: World): void {
    if (process === null || process.life.frozen) {
      this.#troubledMs = timeline.nowMs;
      return;
    }
    const troubled = storage.slowMs > 0 || timeline.nowMs - this.#troubledMs < 2 * SLACK_MS;
    if (troubled) return;
    this.#runs = process.coordinator.drivers().length;
    for (const driver of process.coordinator.drivers()) {
      this.#inTime(driver, timeline.nowMs, process.life.clock.nowMs());
      this.#notWaited(driver, timeline.nowMs);
      notHeldUp(driver);
    }
  }

  #inTime({ round, options }: Driver, nowMs: number, clockMs: number): void {
    if (round === null) return void this.#since.delete(options.run);
    const { phase, deadlineMs, spec } = round;
    const where = `round ${spec.task.round}/${spec.attempt}, ${phase}`;
    // A round that gathers while other runs have its devices waits for them, and then for joinMs anew.
    const mayWait = phase === "gathering" && this.#runs > 1;
    if (!mayWait && Number.isFinite(deadlineMs) && clockMs > deadlineMs + SLACK_MS)
      throw new Violation(`${where}: ${Math.round(clockMs - deadlineMs)} ms beyond its deadline`);
    const known = this.#since.get(options.run);
    const same = known?.phase === `${where}` ? known : { phase: where, sinceMs: nowMs };
    this.#since.set(options.run, same);
    if ((phase === "unmasking" || phase === "failed") && nowMs - same.sinceMs > 2 * SLACK_MS)
      throw new Violation(`${where}: no end for ${Math.round(nowMs - same.sinceMs)} ms`);
  }

  #notWaited({ round }: Driver, nowMs: number): void {
    if (round === null || nowMs - this.#servedMs < RECONNECT_MS + SLACK_MS) return;
    for (const device of round.connected) {
      const sinceMs = this.#away.get(device) ?? (this.#lines.has(device) ? nowMs : this.#servedMs);
      if (nowMs - sinceMs > GONE_MS)
        throw new Violation(
          `${device} is gone for ${Math.round(nowMs - sinceMs)} ms, and its round waits for it`,
        );
    }
  }
}

/** Once every place is taken nobody who still trains is waited for. */
function notHeldUp({ round, options }: Driver): void {
  if (round?.phase !== "training") return;
  const { max, count, target = max * count } = options.plan.cohort;
  const ready = [...round.ready].filter((device) => round.connected.has(device));
  if (ready.length >= target)
    throw new Violation(`a round waits, with ${ready.length} of ${target} devices ready`);
}

function bug(whose: string, fault: Fault): Violation {
  const stack = fault.cause instanceof Error ? fault.cause.stack : fault.stack;
  return new Violation(`a bug, ${whose}: ${stack}`);
}
