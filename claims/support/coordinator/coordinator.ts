// A coordinator as a process: node --import tsx coordinator.ts '<CoordinatorArgs as JSON>'.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Coordinator } from "@tutti/coordinator/drive/coordinator";
import { armFailpoints } from "@tutti/coordinator/failpoint";
import { serveFederation } from "@tutti/coordinator/serve";
import type { Store } from "@tutti/coordinator/store/store";
import { JournalEntrySchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { asChild } from "../round/child.ts";

export type CoordinatorArgs = {
  readonly folder: string;
  /** Tells of the newest run's phases as they begin, of every run's, or of commits. */
  readonly watch: "phases" | "every" | "commits" | "nothing";
};

export type CoordinatorSaid =
  | { readonly kind: "serving"; readonly address: string }
  | { readonly kind: "armed"; readonly with: string }
  /** A run's round and its phase, and when it began on this process's clock. */
  | {
      readonly kind: "phase";
      readonly run: string;
      readonly round: number;
      readonly phase: string;
      readonly atMs: number;
    }
  | { readonly kind: "present"; readonly devices: number }
  /** What it holds once garbage was collected. */
  | { readonly kind: "collected"; readonly residentBytes: number; readonly heapBytes: number }
  /** Durable: what devices said, or a round's end. */
  | { readonly kind: "committed"; readonly events: readonly string[]; readonly closed: boolean };

export type CoordinatorTold =
  | { readonly arm: string }
  | { readonly close: true }
  | { readonly collect: true };

const [args, say] = asChild<CoordinatorArgs, CoordinatorSaid, CoordinatorTold>((word) => {
  if ("close" in word) return void serving.then((server) => server.close()).then(() => process.exit(0));
  if ("collect" in word) return collect();
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
if (args.watch === "phases" || args.watch === "every") watch(server.coordinator, args.watch);

function collect(): void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  // What only a finaliser lets go of goes with the second.
  gc();
  gc();
  const { rss, heapUsed } = process.memoryUsage();
  say({ kind: "collected", residentBytes: rss, heapBytes: heapUsed });
}

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

function watch(coordinator: Coordinator, which: "phases" | "every"): void {
  let present = -1;
  const phases = new Map<string, string>();
  coordinator.watch(() => {
    const here = coordinator.presence.present().length;
    if (here !== present) say({ kind: "present", devices: here });
    present = here;
    for (const driver of coordinator.drivers().slice(which === "every" ? 0 : -1)) {
      const { run } = driver.options;
      const round = driver.header.round;
      const now = driver.round?.phase ?? driver.header.state;
      if (`${round} ${now}` === phases.get(run)) continue;
      phases.set(run, `${round} ${now}`);
      say({ kind: "phase", run, round, phase: now, atMs: performance.now() });
    }
  });
}
