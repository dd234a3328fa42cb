import { fromHex } from "@tutti/foundation/bytes";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import { openRelease } from "@tutti/release/manifest";
import { activeLayout, termsOf } from "@tutti/round/spec";
import { create } from "@tutti/wire/message";
import { type Task, Task_Kind, TaskSchema } from "@tutti/wire/round";
import { AUTHORITY, verify } from "../cast.ts";
import { WALL_START_MS } from "../life.ts";
import { Violation } from "../witness.ts";
import type { World } from "../world.ts";
import { type Closed, file } from "./closed.ts";
import type { Oracle } from "./oracle.ts";

/** An update of a device: the round that it was trained for, and its words in the round that it enters. */
type Update = { readonly device: string; readonly begun: number; readonly words: Uint32Array };

/** "run device begun": which round the update entered. */
const entered = new WeakMap<World, Map<string, number>>();

/**
 * Whether these devices' updates add up to a sum, each in time or as late as the plan allows. How late one is
 * only its device knows, so every way is tried; and no update is in the sums of two rounds.
 */
export async function addsUp(
  world: World,
  { devices, closed, oracle }: { devices: readonly string[]; closed: Closed; oracle: Oracle },
  fits: (words: Uint32Array, packed: Uint8Array) => boolean,
): Promise<boolean> {
  const { plan, task, attempt } = closed;
  const { bits, length } = termsOf({ plan, task, attempt });
  const choices = await Promise.all(devices.map((device) => updatesOf(world, device, { closed, oracle })));
  const found = pick(choices, new Uint32Array(length), (sum) => {
    const packed = packBits(sum, bits);
    return fits(unpackBits(packed, bits, length), packed);
  });
  if (found) for (const update of found) once(world, update, task);
  return found !== null;
}

/** The first choice of one update each whose sum fits. */
function pick(
  choices: readonly (readonly Update[])[],
  sum: Uint32Array,
  fits: (sum: Uint32Array) => boolean,
): Update[] | null {
  const [own, ...others] = choices;
  if (!own) return fits(sum) ? [] : null;
  for (const update of own) {
    const more = sum.slice();
    addInto(more, update.words);
    const rest = pick(others, more, fits);
    if (rest) return [update, ...rest];
  }
  return null;
}

async function updatesOf(
  world: World,
  device: string,
  { closed, oracle }: { closed: Closed; oracle: Oracle },
): Promise<Update[]> {
  const { plan, task, releases } = closed;
  const trains = task.kind === Task_Kind.TRAIN;
  const most = trains ? Math.min(plan.staleness?.max ?? 0, task.round) : 0;
  const found: Update[] = [];
  for (let late = 0; late <= most; late++) {
    const begun = task.round - late;
    const { digest, envelope } = releases[begun]!;
    const own = late === 0 ? task : create(TaskSchema, { ...task, round: begun, parent: fromHex(digest) });
    if (!sameTensors(closed, own)) continue;
    const trust = { authority: AUTHORITY, nowS: WALL_START_MS / 1000, verify };
    const { adapter } = openRelease(envelope, trust).release;
    const bytes = file(world, adapter.sha256, "an adapter");
    const asked = { plan, task: own, manifest: envelope, adapter: bytes };
    found.push({ device, begun, words: await oracle.words(device, asked, late) });
  }
  return found;
}

function once(world: World, { device, begun }: Update, { run, round, kind }: Task): void {
  if (kind !== Task_Kind.TRAIN) return;
  const known = entered.get(world) ?? new Map<string, number>();
  entered.set(world, known);
  const key = `${run} ${device} ${begun}`;
  const before = known.get(key) ?? round;
  if (before !== round)
    throw new Violation(`the update of ${device} for round ${begun} is in rounds ${before} and ${round}`);
  known.set(key, round);
  if (begun < round) world.meets("updates counted late");
}

function sameTensors({ plan, task }: Closed, other: Task): boolean {
  const names = (of: Task) => activeLayout({ plan, task: of }).tensors.map(({ name }) => name);
  return String(names(task)) === String(names(other));
}
