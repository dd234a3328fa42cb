// A coordinator as a process: node --import tsx coordinator.ts '<CoordinatorArgs as JSON>'.
import { appendFile } from "node:fs/promises";
import { serveFederation } from "@tutti/coordinator/serve";
import type { Change, Store } from "@tutti/coordinator/store/store";
import { JournalEntrySchema, type RunHeader, RunHeaderSchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { asChild, die } from "./child.ts";

/** Where it ends itself: around the commit that holds the n-th upload of the round in progress. */
export type CrashPoint = { readonly uploads: number; readonly when: "before" | "committed" };

export type CoordinatorArgs = {
  readonly folder: string;
  /** Everything that is written to the store is appended here too. */
  readonly writes: string;
};

/** A durable change of a run, as far as claims look at it. */
export type Committed = {
  readonly kind: "committed";
  readonly run: string;
  readonly events: readonly { readonly device: string; readonly event: string }[];
  readonly header: Pick<RunHeader, "state" | "reason" | "round" | "attempt"> | null;
  readonly release: number | null;
};

export type CoordinatorSaid =
  | { readonly kind: "serving"; readonly address: string }
  | { readonly kind: "armed" }
  | Committed;

export type CoordinatorTold = { readonly kind: "die"; readonly at: CrashPoint };

let crash: CrashPoint | null = null;
let uploads = 0;

const [args, say] = asChild<CoordinatorArgs, CoordinatorSaid, CoordinatorTold>((word) => {
  crash = word.at;
  uploads = 0;
  say({ kind: "armed" });
});

/** Looks at every commit, and ends the process where it was told to. */
function watched(store: Store): Store {
  return {
    ...store,
    async commit(run, change) {
      const said = tell(run, change);
      uploads += said.events.filter(({ event }) => event === "uploaded").length;
      const now = crash !== null && uploads >= crash.uploads;
      if (now && crash?.when === "before") await die();
      await store.commit(run, change);
      await appendFile(args.writes, bytesOf(change));
      if (now && crash?.when === "committed") {
        // The claim hears of the commit; no device ever does.
        process.send?.(said, () => void die());
        return await new Promise(() => {});
      }
      say(said);
    },
  };
}

function tell(run: string, { append, header, release }: Change): Committed {
  const entries = (append ?? []).map(({ entry }) => decode(JournalEntrySchema, entry, entry.length));
  const events = entries.map(({ device, event }) => ({ device, event: event.case ?? "" }));
  return {
    kind: "committed",
    run,
    events,
    header: header ? told(header) : null,
    release: release?.version ?? null,
  };
}

function told(bytes: Uint8Array): NonNullable<Committed["header"]> {
  const { state, reason, round, attempt } = decode(RunHeaderSchema, bytes, bytes.length);
  return { state, reason, round, attempt };
}

function bytesOf({ append, sums, header, release }: Change): Uint8Array {
  const entries = (append ?? []).map(({ entry }) => entry);
  const running = (sums ?? []).map(({ words }) => words);
  return Buffer.concat([...entries, ...running, header ?? NOTHING, release?.envelope ?? NOTHING]);
}

const NOTHING = new Uint8Array();

const { address } = await serveFederation({ folder: args.folder, around: watched });
say({ kind: "serving", address });
