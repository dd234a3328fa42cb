import { hostname } from "node:os";
import type { Coordinator } from "../drive/coordinator.ts";
import type { CoordinatorParts } from "../drive/parts.ts";
import type { Engine } from "../store/engine.ts";
import { leadHere, type Store, storeOf } from "../store/store.ts";
import { Keeper } from "./keeper.ts";
import type { Office } from "./office.ts";
import { beginTerm } from "./term.ts";

export type KeepOptions = {
  readonly engine: Engine;
  readonly office: Office;
  readonly parts: Omit<CoordinatorParts, "store">;
  /** What stands before the store. */
  readonly around: (store: Store) => Store;
  /** Looks at what a coordinator does from then on; returns how to end that. */
  readonly watch: (coordinator: Coordinator) => () => void;
  /** Where clients find this process. */
  readonly address: string;
  /** Cuts every connection that is open. */
  readonly cut: () => void;
};

/** How long calls in progress may take to be answered before their connections are cut. */
const ANSWER_MS = 300;

/**
 * Leads at once where nobody else can have the database, which is a file's case; else while this process has
 * the lease. What is returned ends that in order.
 */
export async function keepOffice(options: KeepOptions): Promise<{ close(): Promise<void> }> {
  const { engine, office, parts, address } = options;
  if (engine.name === "sqlite") {
    const store = await leadHere(engine);
    office.become({ kind: "leader", epoch: store.epoch });
    const reign = await begin(store, options);
    return { close: () => reign.end() };
  }
  const keeper = new Keeper({
    engine,
    holder: `${hostname().slice(0, 60)} ${process.pid} ${engine.session}`,
    address,
    clock: parts.clock,
    log: parts.log,
    reign: (epoch) => begin(storeOf({ engine, epoch }), options),
    onRole: (role) => office.become(role),
  });
  office.holds = () => keeper.holds();
  keeper.start();
  return keeper;
}

async function begin(store: Store, { office, parts, around, watch, cut }: KeepOptions) {
  await store.note({ actor: "coordinator", what: "epoch.began", subject: `${store.epoch}` });
  const term = await beginTerm({ ...parts, store: around(store) });
  const unwatch = watch(term.coordinator);
  const served = office.enter(term);
  return {
    async end() {
      office.leave(store.epoch);
      const ended = term.end();
      // One that began too late answered nobody; who is connected by now is a later reign's.
      if (!served) return await ended.finally(unwatch);
      // Devices hear at once that nobody is here; what is half read or half told goes no further.
      await Promise.race([ended, parts.clock.sleep(ANSWER_MS)]);
      cut();
      await ended;
      unwatch();
    },
  };
}
