import type { DeviceEvent } from "@tutti/client-sdk/events";
import type { Change } from "@tutti/coordinator/store/store";
import type { Fault } from "@tutti/foundation/fault";
import type { Instruction } from "@tutti/wire/round";
import type { DescMethod } from "@tutti/wire/rpc";
import type { Life } from "./life.ts";
import type { Message } from "./wire.ts";
import type { World } from "./world.ts";

/** A message to the coordinator. */
export type Asked = {
  readonly method: DescMethod;
  readonly message: Message;
  /** Of an answer: the process that gave it. */
  readonly life?: Life;
};

/** A word to a device, and the process that says it. */
export type Told = { readonly word: Instruction; readonly life: Life };

/** What watches a world. Each is called in the moment that it happens; `check` after every event. */
export type Watcher = {
  sent?(world: World, from: string, asked: Asked): void;
  answered?(world: World, from: string, asked: Asked): void;
  refused?(world: World, from: string, about: { method: DescMethod; fault: Fault }): void;
  told?(world: World, to: string, told: Told): void;
  listening?(world: World, device: string, here: boolean): void;
  committed?(world: World, run: string, change: Change): void;
  reported?(world: World, line: string): void;
  storageFailed?(world: World): void;
  served?(world: World): void;
  died?(world: World): void;
  stopped?(world: World, device: string, fault: Fault): void;
  event?(world: World, device: string, event: DeviceEvent): void;
  check?(world: World): void | Promise<void>;
};

/** A promise that was broken: what, and by whom. */
export class Violation extends Error {
  override readonly name = "Violation";
}

type Method = keyof Watcher;

/** All watchers as one. What one of them throws ends the simulation at this event. */
export class Witness {
  readonly #watchers: readonly Watcher[];
  failure: unknown = null;

  constructor(watchers: readonly Watcher[]) {
    this.#watchers = watchers;
  }

  sent(...about: Parameters<NonNullable<Watcher["sent"]>>): void {
    this.#tell("sent", about);
  }

  answered(...about: Parameters<NonNullable<Watcher["answered"]>>): void {
    this.#tell("answered", about);
  }

  refused(...about: Parameters<NonNullable<Watcher["refused"]>>): void {
    this.#tell("refused", about);
  }

  told(...about: Parameters<NonNullable<Watcher["told"]>>): void {
    this.#tell("told", about);
  }

  listening(...about: Parameters<NonNullable<Watcher["listening"]>>): void {
    this.#tell("listening", about);
  }

  committed(...about: Parameters<NonNullable<Watcher["committed"]>>): void {
    this.#tell("committed", about);
  }

  reported(...about: Parameters<NonNullable<Watcher["reported"]>>): void {
    this.#tell("reported", about);
  }

  storageFailed(...about: Parameters<NonNullable<Watcher["storageFailed"]>>): void {
    this.#tell("storageFailed", about);
  }

  served(...about: Parameters<NonNullable<Watcher["served"]>>): void {
    this.#tell("served", about);
  }

  died(...about: Parameters<NonNullable<Watcher["died"]>>): void {
    this.#tell("died", about);
  }

  stopped(...about: Parameters<NonNullable<Watcher["stopped"]>>): void {
    this.#tell("stopped", about);
  }

  event(...about: Parameters<NonNullable<Watcher["event"]>>): void {
    this.#tell("event", about);
  }

  /** After every event. @throws the first thing that was found wrong. */
  async check(world: World): Promise<void> {
    for (const watcher of this.#watchers) if (watcher.check) await watcher.check(world);
    if (this.failure !== null) throw this.failure;
  }

  /** A watcher that is told inside the system's own code must not throw there, where it might be caught. */
  #tell(what: Method, about: unknown[]): void {
    for (const watcher of this.#watchers) {
      try {
        (watcher[what] as ((...about: unknown[]) => void) | undefined)?.apply(watcher, about);
      } catch (error) {
        this.failure ??= error;
      }
    }
  }
}
