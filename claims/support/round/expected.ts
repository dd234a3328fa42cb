import { readSafetensors, writeSafetensors } from "@tutti/adapter/formats/safetensors";
import { addInto } from "@tutti/kernels/ring";
import { nextAdapter, readSum } from "@tutti/round/result";
import { firstHeader, taskOf } from "@tutti/round/run";
import { flatten, layoutOf, unflatten } from "@tutti/update/layout";
import type { PreparedRun } from "tutti/prepare";

/**
 * The adapter that a run's first round makes of these sites' words, added in the clear: what must be
 * released, byte for byte. No key, mask or share is in here.
 */
export function adapterFrom(
  { plan, initial }: PreparedRun,
  { run, manifest, words }: { run: string; manifest: string; words: readonly (readonly number[])[] },
): Uint8Array {
  const sum = new Uint32Array(words[0]?.length ?? 0);
  for (const vector of words) addInto(sum, Uint32Array.from(vector));
  const first = firstHeader({ version: 0, manifest, adapter: plan.initial.sha256 });
  const spec = { plan, task: taskOf(run, plan, first), attempt: 0, expected: new Set<string>() };
  const { mean } = readSum(spec, sum, { devices: words.length, size: null });
  const layout = layoutOf(plan.tensors);
  const before = new Map(
    [...readSafetensors(initial)].map(([name, { data }]) => [name, data as Float32Array]),
  );
  const { parameters } = nextAdapter(spec, { parameters: flatten(layout, before), mean, held: undefined });
  const next = unflatten(layout, parameters);
  return writeSafetensors(layout.tensors.map(({ name, shape }) => ({ name, shape, data: next.get(name)! })));
}
