// A coordinator as a process: node --import tsx coordinator.ts '<CoordinatorArgs as JSON>'.
import { armFailpoints } from "@tutti/coordinator/failpoint";
import { serveFederation } from "@tutti/coordinator/serve";
import { asChild } from "../round/child.ts";

export type CoordinatorArgs = {
  readonly folder: string;
  /** Tells of phases as they begin, and of what the process holds after each round. */
  readonly watch: boolean;
};

export type CoordinatorSaid =
  | { readonly kind: "serving"; readonly address: string }
  | { readonly kind: "armed" }
  /** A round and its phase, and when it began on this process's clock. */
  | { readonly kind: "phase"; readonly round: number; readonly phase: string; readonly atMs: number }
  | { readonly kind: "present"; readonly devices: number };

export type CoordinatorTold = { readonly arm: string };

const [args, say] = asChild<CoordinatorArgs, CoordinatorSaid, CoordinatorTold>(({ arm }) => {
  armFailpoints({ ...process.env, TUTTI_FAILPOINT: arm });
  say({ kind: "armed" });
});

const { address, coordinator } = await serveFederation({ folder: args.folder });
say({ kind: "serving", address });
if (args.watch) watch();

function watch(): void {
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
