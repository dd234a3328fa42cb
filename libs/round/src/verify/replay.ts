import { equalBytes, hex } from "@tutti/foundation/bytes";
import { sha256, sha256Hex } from "@tutti/foundation/hash";
import { unpackBits } from "@tutti/kernels/pack";
import { checkArtifact, type Release } from "@tutti/release/manifest";
import type { Group } from "@tutti/secagg/group";
import { ruleOf } from "@tutti/strategy/rule";
import type { RoundRecord } from "@tutti/wire/admin";
import { Task_Kind } from "@tutti/wire/round";
import type { CohortTranscript, Transcript } from "@tutti/wire/transcript";
import { sizeOf } from "../privacy.ts";
import { combineResults, nextFiles, type Result, readSum, recordOf } from "../result.ts";
import type { RoundSpec } from "../spec.ts";
import { must, mustEqual } from "./check.ts";
import type { Asked } from "./papers.ts";

/** A sum's record, and the group that its checks found. */
export type Checked = { readonly cohort: CohortTranscript; readonly group: Group };

/** What the words of the counted sums say together. */
export type Opened = { readonly mean: Float32Array; readonly record: RoundRecord };

/**
 * What a sum's words say.
 * @throws Fault for words that no sum of so many devices in their bounds has.
 */
export function openSum(bytes: Uint8Array, { cohort, group }: Checked, asked: Asked): Result {
  const { bits, length } = cohort.terms!;
  const of = { devices: cohort.survivors.length, size: sizeOf(group) };
  return readSum(specOf(asked), unpackBits(bytes, bits, length), of);
}

/** The counted sums together, as the plan combines them. */
export function openedOf(results: readonly Result[], asked: Asked): Opened {
  const spec = specOf(asked);
  return { mean: combineResults(spec, results), record: recordOf(spec, results) };
}

/** Whether the rule remembers anything between rounds; a state file is needed only then. */
export function hasState({ plan }: Asked): boolean {
  return ruleOf(plan.server).begin(0).length > 0;
}

/** Before the run's first step there is no state, and after it there always is: none may be forgotten. */
export function checkStates({ stateBefore, stateAfter }: Transcript, { task }: Asked): void {
  const trains = task.kind === Task_Kind.TRAIN;
  const lengths = { before: trains && task.round > 0 ? 32 : 0, after: trains ? 32 : 0 };
  mustEqual("state before the step, bytes of its hash", lengths.before, stateBefore.length);
  mustEqual("state after the step, bytes of its hash", lengths.after, stateAfter.length);
}

/**
 * Takes the round's step again. @throws Fault("refused") naming what differs: the parent's adapter, the
 * state, or the adapter that the manifest names.
 */
export function replay(
  transcript: Transcript,
  asked: Asked,
  given: {
    opened: Opened;
    parent: Uint8Array;
    state?: Uint8Array | undefined;
    release?: Release | undefined;
  },
): { sha256: string; bytes: number } {
  const { opened, parent, state, release } = given;
  checkArtifact(parent, asked.parent.release.adapter, "parent's adapter");
  if (state) mustEqual("state before the step", hex(transcript.stateBefore), sha256Hex(state));
  const { adapter, held } = nextFiles(specOf(asked), { parent, mean: opened.mean, held: state });
  if (release) checkArtifact(adapter, release.adapter, "adapter by the step taken again");
  must("state after the step", equalBytes(transcript.stateAfter, sha256(held)), {
    expected: hex(transcript.stateAfter),
    got: sha256Hex(held),
  });
  return { sha256: sha256Hex(adapter), bytes: adapter.length };
}

function specOf({ plan, task }: Asked): RoundSpec {
  return { plan, task, attempt: 0, expected: new Set() };
}
