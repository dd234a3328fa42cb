import { open } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { S3Error, S3mini, S3ServiceError } from "s3mini";
import { MAX_ARTIFACT_BYTES } from "../artifacts.ts";

/** Where a bucket is and who may use it. */
export type BucketOptions = {
  /** "https://host[:port]"; the bucket's name follows in the path. */
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  /** Before each object's name; "" for none. */
  readonly prefix: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
};

/** Files by name in an S3-compatible bucket. An object is there whole or not at all, as S3 promises. */
export type Bucket = {
  /** Bytes; undefined where there is none of this name. */
  size(name: string): Promise<number | undefined>;
  /** All of an object of a known size, in pieces that one request each asks for. */
  stream(name: string, totalBytes: number): AsyncIterable<Uint8Array>;
  put(name: string, file: string, totalBytes: number): Promise<void>;
  /** No error where there is none. */
  remove(name: string): Promise<void>;
};

/** What one request carries: few enough bytes for memory, so many that the largest file has parts enough. */
const PART_BYTES = 16 << 20;
/** S3's own limit ("Amazon S3 multipart upload limits"). */
const MOST_PARTS = 10_000;
assert(PART_BYTES * MOST_PARTS >= MAX_ARTIFACT_BYTES, "the largest artifact fits an upload in parts");
/** For one part: 16 MiB at 280 kB/s. */
const REQUEST_MS = 60_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 1_600;
const KIND = "application/octet-stream";

/**
 * @throws Fault("not-found") where there is no such bucket; Fault("refused") for credentials that it does not
 * take; Fault("storage") where it cannot be reached.
 */
export async function openBucket(options: BucketOptions): Promise<Bucket> {
  const { bucket, credentials, endpoint, prefix, region } = options;
  const s3 = new S3mini({
    ...credentials,
    endpoint: `${endpoint.replace(/\/+$/, "")}/${bucket}`,
    region,
    requestAbortTimeout: REQUEST_MS,
  });
  // Listing tells a bucket that is not there (null) from one that these credentials must not see.
  const listed = await asking("opening the bucket", () => s3.listObjectsPaged("/", prefix, 1));
  if (listed === null) {
    const todo = "Make the bucket, or name another in tutti.json";
    throw new Fault("not-found", `bucket ${bucket}`, { expected: "one that exists", got: "none", todo });
  }
  const key = (name: string) => `${prefix}${name}`;
  return {
    size: (name) =>
      asking("looking for an artifact", async () =>
        (await s3.objectExists(key(name))) ? s3.getContentLength(key(name)) : undefined,
      ),
    stream: (name, totalBytes) => stream(s3, key(name), totalBytes),
    put: (name, file, totalBytes) =>
      asking("uploading an artifact", () => upload(s3, key(name), { file, totalBytes })),
    remove: (name) => asking("removing an artifact", async () => void (await s3.deleteObject(key(name)))),
  };
}

async function* stream(s3: S3mini, key: string, totalBytes: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < totalBytes; ) {
    const to = Math.min(from + PART_BYTES, totalBytes);
    const part = await asking("downloading an artifact", async () => {
      const response = await s3.getObjectRaw(key, false, from, to);
      return new Uint8Array(await response.arrayBuffer());
    });
    if (part.length !== to - from)
      throw new Fault("storage", "downloading an artifact", {
        expected: `${to - from} bytes`,
        got: `${part.length}`,
      });
    yield part;
    from = to;
  }
}

/** In one request where it fits; an upload in parts that is cut is given up, so that they cost nothing. */
async function upload(
  s3: S3mini,
  key: string,
  { file, totalBytes }: { file: string; totalBytes: number },
): Promise<void> {
  const handle = await open(file, "r");
  const partAt = async (from: number) => {
    const part = new Uint8Array(Math.min(PART_BYTES, totalBytes - from));
    const { bytesRead } = await handle.read(part, 0, part.length, from);
    if (bytesRead === part.length) return part;
    throw new Fault("storage", "reading an artifact", {
      expected: `${part.length} bytes`,
      got: `${bytesRead}`,
    });
  };
  try {
    if (totalBytes <= PART_BYTES) return void (await s3.putObject(key, await partAt(0), KIND));
    const id = await s3.getMultipartUploadId(key, KIND);
    try {
      const parts = [];
      for (let from = 0; from < totalBytes; from += PART_BYTES)
        parts.push(await s3.uploadPart(key, id, await partAt(from), parts.length + 1));
      await s3.completeMultipartUpload(key, id, parts);
    } catch (cause) {
      await s3.abortMultipartUpload(key, id).catch(() => {});
      throw cause;
    }
  } finally {
    await handle.close();
  }
}

/**
 * One request or a few, each of which may be made again. S3 asks whoever hears 500, 503 or nothing to come
 * again ("Error best practices", Amazon S3 user guide); what is still so after a few times is a Fault, which
 * names neither the credentials nor the address.
 */
async function asking<T>(what: string, body: () => Promise<T>): Promise<T> {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs *= 2) {
    try {
      return await body();
    } catch (cause) {
      if (cause instanceof Fault) throw cause;
      const status = cause instanceof S3ServiceError ? cause.status : undefined;
      const passing = status === undefined || status === 429 || status >= 500;
      if (!passing || waitMs > LONGEST_WAIT_MS) throw faultOf(what, cause, status);
      await setTimeout(waitMs);
    }
  }
}

function faultOf(what: string, cause: unknown, status: number | undefined): Fault {
  if (status === 401 || status === 403)
    return new Fault("refused", what, {
      expected: "credentials that the bucket takes",
      got: `status ${status}`,
      todo: "Check artifacts.s3.credentialsFile and what its key may do",
    });
  const said = cause instanceof S3Error && cause.code ? ` ${cause.code}` : "";
  const got = status === undefined ? `no answer${said}` : `status ${status}${said}`;
  return new Fault("storage", what, { got, cause });
}
