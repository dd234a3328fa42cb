import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { examplesFromArrays } from "@tutti/client-sdk/examples";
import type { Examples } from "@tutti/train/batches";

const FOLDER = new URL("../../../../shared/data/mnist10k/", import.meta.url);
const [ROWS, SIDE] = [10_000, 28] as const;
/** IDX (yann.lecun.com/exdb/mnist): big-endian sizes, then bytes. */
const [IMAGES_AT, LABELS_AT] = [16, 8] as const;

/** The 10,000 images of the test set, in 0…1, and their digits; null where they are not there. */
export async function readMnist(): Promise<Examples | null> {
  const read = (file: string) => readFile(new URL(file, FOLDER)).catch(() => null);
  const images = await read("t10k-images-idx3-ubyte.gz");
  const labels = await read("t10k-labels-idx1-ubyte.gz");
  if (!images || !labels) return null;
  const pixels = Float32Array.from(gunzipSync(images).subarray(IMAGES_AT), (byte) => byte / 255);
  const digits = BigInt64Array.from(gunzipSync(labels).subarray(LABELS_AT), BigInt);
  return examplesFromArrays({
    inputs: { image: { dtype: "float32", shape: [ROWS, 1, SIDE, SIDE], data: pixels } },
    label: { dtype: "int64", shape: [ROWS], data: digits },
  });
}
