import type { DeviceEvent } from "@tutti/client-sdk/events";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import { openRelease } from "@tutti/release/manifest";
import { AUTHORITY, verify } from "../cast.ts";
import { WALL_START_MS } from "../life.ts";
import { mergedWith } from "../recipe.ts";
import { Violation, type Watcher } from "../witness.ts";
import type { Site, World } from "../world.ts";
import type { Books } from "./books.ts";

/** Merging is pure: once for each release of a simulation. */
type Whole = { readonly version: number; readonly model: string; readonly adapter: string };

/** Promise 4: a device answers with one whole release, the old one or the new one, and goes back to none. */
export class WholeDevices implements Watcher {
  readonly #books: Books;
  readonly #whole = new Map<string, Whole>();
  /** What each device answered with last, by run. */
  readonly #newest = new Map<string, number>();
  /** Whose disk failed: what does not load any more gives way to the one before (device.ts, loadModel). */
  readonly #unreadable = new Set<string>();
  readonly #pointers = new Map<string, unknown>();

  constructor(books: Books) {
    this.#books = books;
  }

  event(_world: World, device: string, event: DeviceEvent): void {
    if (event.kind === "refused" && event.because.code === "storage") this.#unreadable.add(device);
  }

  check(world: World): void {
    for (const site of world.sites.values()) {
      if (this.#pointers.get(site.name) !== site.deviceDisk.pointer) this.#pointed(world, site);
      this.#answers(site);
    }
  }

  #pointed(world: World, { name, deviceDisk }: Site): void {
    this.#pointers.set(name, deviceDisk.pointer);
    const { current } = deviceDisk.pointer;
    if (current === null) return;
    const held = deviceDisk.releases.get(current);
    if (!held)
      throw new Violation(`${name} points at release ${current.slice(0, 8)}, which it does not hold`);
    const whole = this.#whole.get(current) ?? this.#judge(world, name, current);
    this.#whole.set(current, whole);
    if (sha256Hex(held.adapter) !== whole.adapter || sha256Hex(held.model) !== whole.model)
      throw new Violation(`${name} holds a release ${whole.version} of other bytes`);
    const key = `${name} ${held.run}`;
    if (whole.version < (this.#newest.get(key) ?? 0) && !this.#unreadable.has(name))
      throw new Violation(`${name} went back to release ${whole.version} by itself`);
    this.#newest.set(key, whole.version);
  }

  #judge({ shelf }: World, device: string, digest: string): Whole {
    for (const { plan, releases } of this.#books.runs.values()) {
      const found = releases.find((release) => release?.digest === digest);
      if (!found) continue;
      const trust = { authority: AUTHORITY, nowS: WALL_START_MS / 1000, verify };
      const { release } = openRelease(found.envelope, trust);
      const adapter = shelf.get(release.adapter.sha256);
      if (!adapter) throw new Violation(`the adapter of release ${release.version} is not there`);
      return wholeOf(plan, release.version, adapter);
    }
    throw new Violation(`${device} answers with ${digest.slice(0, 8)}, which nobody published`);
  }

  /** Between the pointer's write and the swap it still answers with the one before. */
  #answers({ name, device, deviceDisk }: Site): void {
    const digest = device?.model().release?.digest;
    if (digest === undefined) return;
    const { current, previous } = deviceDisk.pointer;
    if (digest !== current && digest !== previous)
      throw new Violation(`${name} answers with ${digest.slice(0, 8)}, which its disk does not point at`);
  }
}

function wholeOf(plan: Plan, version: number, adapter: Uint8Array): Whole {
  return { version, adapter: sha256Hex(adapter), model: sha256Hex(mergedWith(plan, adapter)) };
}
