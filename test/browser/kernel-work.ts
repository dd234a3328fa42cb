import { hex } from "@tutti/foundation/bytes";
import { sha256 } from "@tutti/foundation/hash";
import { addKeystreams } from "@tutti/kernels/chacha20";
import { walshHadamard } from "@tutti/kernels/hadamard";
import { kernels } from "@tutti/kernels/kernels";
import { addPacked, packBits } from "@tutti/kernels/pack";
import { roundWords } from "@tutti/kernels/quantise";
import { addInto } from "@tutti/kernels/ring";

/** Whether WebAssembly did it, and the hash of what came out. */
export type KernelWork = { readonly compiled: boolean; readonly words: string };

/** Every kernel once, on a vector of more than one piece. */
export function kernelWork(): KernelWork {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
  const values = Float32Array.from({ length: 2 ** 15 }, (_, i) => ((i * 37) % 1001) / 500 - 1);
  walshHadamard(values);
  const words = roundWords(values, { factor: 1000, limit: 2, bits: 20, key });
  addKeystreams(words, [
    { key, sign: 1 },
    { key: key.map((byte) => ~byte), sign: -1 },
  ]);
  addInto(words, words.slice());
  addPacked(words, packBits(words, 21), 21);
  return { compiled: kernels() !== null, words: hex(sha256(new Uint8Array(words.buffer))) };
}
