// One of several coordinators as a process: node --import tsx coordinator.ts '<ReplicaArgs as JSON>'.
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import type { Store } from "@tutti/coordinator/store/store";
import { asFault } from "@tutti/foundation/fault";
import { RunHeaderSchema } from "@tutti/wire/journal";
import { decode } from "@tutti/wire/message";
import { asChild } from "../round/child.ts";

export type ReplicaArgs = { readonly folder: string };

export type ReplicaSaid =
  | { readonly kind: "serving"; readonly address: string }
  /** `atMs`: the machine's clock, which all its processes share. */
  | { readonly kind: "role"; readonly epoch: number | null; readonly atMs: number }
  /** A change that this process knows to be durable. */
  | {
      readonly kind: "committed";
      readonly run: string;
      readonly epoch: number;
      /** Of the round that it closed or began; null where it did neither. */
      readonly attempt: number | null;
      readonly reason: string;
    }
  | { readonly kind: "tried"; readonly epoch: number; readonly met: string };

/** Writes as the leader that it was last, whatever it is now. */
export type ReplicaTold = { readonly kind: "try"; readonly run: string };

let last: Store | null = null;

const [args, say] = asChild<ReplicaArgs, ReplicaSaid, ReplicaTold>(async ({ run }) => {
  const store = last;
  if (store === null) return say({ kind: "tried", epoch: 0, met: "never led" });
  const met = await store.commit(run, { state: "stopped" }).then(
    () => "written",
    (error) => {
      const { code, what, detail } = asFault(error);
      return `${code}: ${what}${detail.got ? `, got ${detail.got}` : ""}`;
    },
  );
  say({ kind: "tried", epoch: store.epoch, met });
});

/** Tells of every commit once it is durable. */
function watched(store: Store): Store {
  last = store;
  return {
    ...store,
    async commit(run, change) {
      await store.commit(run, change);
      const { header } = change;
      const closed = header ? decode(RunHeaderSchema, header, header.length) : null;
      const { attempt = null, reason = "" } = closed ?? {};
      say({ kind: "committed", run, epoch: store.epoch, attempt, reason });
    },
  };
}

const server: Server = await serveFederation({ folder: args.folder, around: watched });
server.onRole((role) => {
  const epoch = role.kind === "leader" ? role.epoch : null;
  say({ kind: "role", epoch, atMs: Date.now() });
});
say({ kind: "serving", address: server.address });
