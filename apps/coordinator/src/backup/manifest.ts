import { Fault } from "@tutti/foundation/fault";
import * as v from "valibot";

/** What a backup's `manifest.json` says; it is written last, so a folder without one is no backup. */
export const MANIFEST = "manifest.json";

const FILE = /^(store\/[a-z_]{1,40}\.jsonl|artifacts\/[0-9a-f]{64}|folder(\/[A-Za-z0-9._-]{1,100}){1,2})$/;
/** A million artifacts are far more than a federation makes. */
const MAX_FILES = 1_000_000;

const path = v.pipe(v.string(), v.regex(FILE), v.excludes(".."));

/** Whether a backup can have a file of this path. */
export const isPath = (text: string): boolean => v.is(path, text);

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const schema = v.strictObject({
  version: v.literal(1),
  federation: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,64}$/)),
  madeAt: v.pipe(v.string(), v.isoTimestamp()),
  /** Of the database it was taken from; it may be restored to either. */
  engine: v.picklist(["sqlite", "postgres"]),
  migrations: count,
  epoch: count,
  /** Whether artifacts are in it, or in a bucket that is not. */
  artifacts: v.picklist(["here", "bucket"]),
  files: v.pipe(
    v.array(
      v.strictObject({
        path,
        bytes: count,
        sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
      }),
    ),
    v.maxLength(MAX_FILES),
  ),
});

export type Manifest = v.InferOutput<typeof schema>;
export type ManifestFile = Manifest["files"][number];

export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(v.parse(schema, manifest), null, 2)}\n`;
}

/** @throws Fault("bad-input") naming the field. */
export function parseManifest(text: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Fault("bad-input", MANIFEST, { expected: "JSON", got: "other text", cause });
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const at = v.getDotPath(issue);
  const got = typeof issue.input === "object" ? "something else" : JSON.stringify(issue.input)?.slice(0, 80);
  throw new Fault("bad-input", at ? `${MANIFEST}: ${at}` : MANIFEST, {
    expected: issue.expected ?? issue.message,
    got: got ?? "nothing",
  });
}
