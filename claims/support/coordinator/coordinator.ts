// A coordinator as a process: node --import tsx coordinator.ts '<CoordinatorArgs as JSON>'.
import type { Coordinator } from "@tutti/coordinator/drive/coordinator";
import { armFailpoints } from "@tutti/coordinator/failpoint";
import { serveFederation } from "@tutti/coordinator/serve";
import type { Store } from "@tutti/coordinator/store/store";
import { JournalEntrySchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { asChild } from "../round/child.ts";

export type CoordinatorArgs = {
  readonly folder: string;
  /** Tells of phases as they begin, and of commits. */
  readonly watch: "phases" | "commits" | "nothing";
};

export type CoordinatorSaid =
  | { readonly kind: "serving"; readonly address: string }
  | { readonly kind: "armed"; readonly with: string }
  /** A round and its phase, and when it began on this process's clock. */
  | { readonly kind: "phase"; readonly round: number; readonly phase: string; readonly atMs: number }
  | { readonly kind: "present"; readonly devices: number }
  /** Durable: what devices said, or a round's end. */
  | { readonly kind: "committed"; readonly events: readonly string[]; readonly closed: boolean };

export type CoordinatorTold = { readonly arm: string } | { readonly close: true };

const [args, say] = asChild<CoordinatorArgs, CoordinatorSaid, CoordinatorTold>((word) => {
  if ("close" in word) return void serving.then((server) => server.close()).then(() => process.exit(0));
  armFailpoints({ ...process.env, TUTTI_FAILPOINT: word.arm });
  say({ kind: "armed", with: word.arm });
});

const serving = serveFederation({
  folder: args.folder,
  ...(args.watch === "commits" && { around: heard }),
});
const server = await serving;
// On PostgreSQL it stands by until it has the lease, and can answer nobody before.
const leading = new Promise<void>((resolve) => server.onRole(({ kind }) => kind === "leader" && resolve()));
await leading;
say({ kind: "serving", address: server.address });
if (args.watch === "phases") watch(server.coordinator);

/** Says what became durable, once it is. */
function heard(store: Store): Store {
  return {
    ...store,
    async commit(run, change) {
      await store.commit(run, change);
      const events = (change.append ?? []).map(
        ({ entry }) => decode(JournalEntrySchema, entry, entry.length).event.case ?? "",
      );
      say({ kind: "committed", events, closed: change.clearJournal === true });
    },
  };
}

function watch(coordinator: Coordinator): void {
  let [phase, present] = ["", -1];
  coordinator.watch(() => {
    const driver = coordinator.drivers().at(-1);
    const here = coordinator.presence.present().length;
    if (here !== present) say({ kind: "present", devices: here });
    present = here;
    if (!driver) return;
    const round = driver.header.round;
    const now = driver.round?.phase ?? driver.header.state;
    if (`${round} ${now}` === phase) return;
    phase = `${round} ${now}`;
    say({ kind: "phase", round, phase: now, atMs: performance.now() });
  });
}
