import { isAbsolute, join } from "node:path";
import { Fault } from "@tutti/foundation/fault";
import { type Artifacts, openArtifacts } from "../artifacts.ts";
import type { Config } from "../folder/config.ts";
import { artifactsFolder, PATHS, readText } from "../folder/layout.ts";
import { type BucketOptions, openBucket } from "./bucket.ts";
import { openCache } from "./cache.ts";
import { rememberSmall } from "./recent.ts";
import { sharedArtifacts } from "./shared.ts";

/** Where a federation's config keeps its artifacts; paths in it count from its folder. */
export async function artifactsOf(folder: string, config: Pick<Config, "artifacts">): Promise<Artifacts> {
  const { s3 } = config.artifacts;
  if (!s3) return rememberSmall(openArtifacts(artifactsFolder(folder, config)));
  const credentials = parseCredentials(
    await readText(isAbsolute(s3.credentialsFile) ? "/" : folder, s3.credentialsFile),
  );
  const { cacheBytes, prefix = "", ...where } = s3;
  const bucket = await openBucket({ ...where, prefix, credentials });
  return rememberSmall(sharedArtifacts(bucket, await openCache(join(folder, PATHS.artifacts), cacheBytes)));
}

/** @throws Fault("bad-input") that quotes nothing of the file. */
export function parseCredentials(text: string): BucketOptions["credentials"] {
  let value: Record<string, unknown> = {};
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // The parser's own message quotes the text, and the text holds a secret.
  }
  const { accessKeyId, secretAccessKey, ...more } = value ?? {};
  const whole = isKey(accessKeyId) && isKey(secretAccessKey) && Object.keys(more).length === 0;
  if (whole) return { accessKeyId, secretAccessKey };
  throw new Fault("bad-input", "artifacts.s3.credentialsFile", {
    expected: 'a JSON object of "accessKeyId" and "secretAccessKey" and nothing else',
    got: "other text",
  });
}

function isKey(value: unknown): value is string {
  return typeof value === "string" && value.length > 0 && value.length <= 1024;
}
