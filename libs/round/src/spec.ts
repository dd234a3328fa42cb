import { activeTensors } from "@tutti/adapter/method";
import { canonical, fromHex } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { metricBounds } from "@tutti/plan/metrics";
import type { Plan } from "@tutti/plan/plan";
import { type Layout, layoutOf } from "@tutti/update/layout";
import { type Scale, wordsOf } from "@tutti/update/quantise";
import { create, encode } from "@tutti/wire/message";
import { type Task, Task_Kind, TaskSchema } from "@tutti/wire/round";
import { type Terms, TermsSchema } from "@tutti/wire/secagg";

/** What is fixed before a round begins; device and coordinator derive the same from plan and task. */
export type RoundSpec = {
  readonly plan: Plan;
  readonly task: Task;
  readonly attempt: number;
  /** Devices of the last sum: a round need not wait for strangers once these are here. */
  readonly expected: ReadonlySet<string>;
  /** Devices that are invited first, with how often in a row they have been (excuse.ts). */
  readonly owed?: ReadonlyMap<string, number>;
};

/** The tensors that travel in this round; none when it only evaluates. */
export function activeLayout({ plan, task }: Pick<RoundSpec, "plan" | "task">): Layout {
  if (task.kind === Task_Kind.EVALUATE) return layoutOf([]);
  return layoutOf(activeTensors(plan.adapter.method, task.round, plan.tensors));
}

/** How the plan quantises: docs/protocol.md, The vector, with cohort.max members at most. */
export function scaleOf(plan: Plan): Scale {
  return {
    bits: plan.secureAggregation.bits,
    devices: plan.cohort.max,
    clip: plan.update.clip,
    maxWeight: plan.update.maxWeight,
    metrics: metricBounds(plan),
  };
}

/** What a sum over more than 100 devices withstands where the plan does not say. */
const SPARSE = { corrupt: 0.1, lost: 0.1 } as const;

/** The shares of corrupt and of lost devices that a graph of more than 100 must withstand. */
export function graphNeed({ secureAggregation }: Pick<Plan, "secureAggregation">) {
  return secureAggregation.graph ?? SPARSE;
}

/** The terms of the round's session; a device computes its own and refuses any other. */
export function termsOf(spec: Pick<RoundSpec, "plan" | "task" | "attempt">): Terms {
  const { plan, task, attempt } = spec;
  const { corrupt, lost } = graphNeed(plan);
  return create(TermsSchema, {
    run: task.run,
    round: task.round,
    attempt,
    modelHash: fromHex(plan.base.sha256),
    taskHash: taskHash(task),
    bits: plan.secureAggregation.bits,
    length: lengthOf(spec),
    plain: !plan.secureAggregation.enabled,
    corrupt: Math.round(corrupt * 1000),
    lost: Math.round(lost * 1000),
  });
}

/** Words of a device's vector: under noise the vector is rotated, which takes a power of two of them. */
function lengthOf(spec: Pick<RoundSpec, "plan" | "task">): number {
  const { plan } = spec;
  const words = wordsOf(scaleOf(plan), activeLayout(spec).length);
  if (!plan.privacy) return words;
  // No weight: under noise every device weighs the same.
  return 2 ** Math.ceil(Math.log2(words - 1 + (plan.privacy.adaptiveClip ? 1 : 0)));
}

/** SHA-256 of the encoded task: what a session's masks are bound to. */
export function taskHash(task: Task): Uint8Array {
  return sha256(encode(TaskSchema, task));
}

/** The id of a session without masks: docs/protocol.md, Secure aggregation. */
export function plainSessionId(terms: Terms): Uint8Array {
  return sha256(canonical("tutti/plain/v1", encode(TermsSchema, terms)));
}
