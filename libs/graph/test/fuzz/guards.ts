import * as tf from "@tensorflow/tfjs-core";

/** What guards a block on either side; a multiple of what wasm aligns to. */
const GUARD_BYTES = 64;

/** Another byte for every block: a kernel that copies too much may copy one guard over another. */
const guardOf = (address: number): number => 1 + ((address >>> 3) % 251);

/** What a block holds before a kernel writes it: no value that a result should have. */
const UNWRITTEN = 0xfe;

/** How that reads as float32 and as int32. */
export const UNWRITTEN_VALUES: readonly number[] = [
  new Float32Array(new Uint8Array(4).fill(UNWRITTEN).buffer)[0]!,
  new Int32Array(new Uint8Array(4).fill(UNWRITTEN).buffer)[0]!,
];

type Heap = { HEAPU8: Uint8Array; _malloc(bytes: number): number; _free(address: number): void };

/**
 * From here on every tensor on wasm lies between guards. The function returned throws where one was written
 * over since it was last called: a kernel wrote outside its output, which otherwise breaks some later case.
 */
export async function guarded(): Promise<() => void> {
  await tf.setBackend("wasm");
  const { wasm } = tf.backend() as unknown as { wasm: Heap };
  // The first call of either puts another function in its own place.
  wasm._free(wasm._malloc(1));
  const [malloc, free] = [wasm._malloc, wasm._free];
  const sizes = new Map<number, number>();
  const broken: string[] = [];
  wasm._malloc = (bytes) => {
    const block = malloc(bytes + 2 * GUARD_BYTES) >>> 0;
    const address = block + GUARD_BYTES;
    wasm.HEAPU8.fill(guardOf(address), block, address + bytes + GUARD_BYTES);
    wasm.HEAPU8.fill(UNWRITTEN, address, address + bytes);
    sizes.set(address, bytes);
    return address;
  };
  const look = (address: number, bytes: number) => {
    const guards = [address - GUARD_BYTES, address + bytes];
    for (const [side, at] of guards.entries())
      if (wasm.HEAPU8.subarray(at, at + GUARD_BYTES).some((byte) => byte !== guardOf(address))) {
        broken.push(`${side === 0 ? "before" : "after"} a block of ${bytes} bytes`);
        wasm.HEAPU8.fill(guardOf(address), at, at + GUARD_BYTES);
      }
  };
  wasm._free = (address) => {
    const bytes = sizes.get(address >>> 0);
    if (bytes === undefined) return free(address);
    look(address >>> 0, bytes);
    sizes.delete(address >>> 0);
    return free((address >>> 0) - GUARD_BYTES);
  };
  return () => {
    for (const [address, bytes] of sizes) look(address, bytes);
    const what = broken.splice(0).join("; ");
    if (what !== "") throw new Error(`wasm: memory was written ${what}`);
  };
}
