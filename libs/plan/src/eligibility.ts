import * as v from "valibot";

/** Which devices a run asks (docs/run-file.md, Which devices are asked): all that is there must hold. */

const natural = (low: number, high: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(low), v.maxValue(high));
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(64));
const oneOf = v.union([text, v.pipe(v.array(text), v.minLength(1), v.maxLength(100))]);

/** How often one device takes part. */
const participation = v.strictObject({
  /** Rounds in all. */
  maxRounds: v.exactOptional(natural(1, 10_000)),
  /** From one round that it took part in to the next. */
  everyMs: v.exactOptional(natural(1_000, 31 * 86_400_000)),
  /** Rounds that it sits out after one that it took part in. */
  minRoundsBetween: v.exactOptional(natural(1, 10_000)),
});

export const eligibility = v.strictObject({
  /** Of the certificate, so the authority's word: each key has this value, or one of these. */
  labels: v.exactOptional(v.record(text, oneOf)),
  /** True: only while it is; false, like no such field: either way. */
  charging: v.exactOptional(v.boolean()),
  unmetered: v.exactOptional(v.boolean()),
  idle: v.exactOptional(v.boolean()),
  /** Rows to train on. The device checks it, and tells nobody how many it has. */
  minExamples: v.exactOptional(natural(1, 1e9)),
  /** The oldest SDK, as ">=0.1.0". */
  sdk: v.exactOptional(v.pipe(v.string(), v.regex(/^>=\d{1,6}\.\d{1,6}\.\d{1,6}$/, ">= and a version"))),
  /** Any of these that it can train on. */
  engines: v.exactOptional(v.pipe(v.array(text), v.minLength(1), v.maxLength(8))),
  participation: v.exactOptional(participation),
});

export type Eligibility = v.InferOutput<typeof eligibility>;
export type Participation = v.InferOutput<typeof participation>;
