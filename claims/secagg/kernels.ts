import { createCipheriv } from "node:crypto";
import { addKeystream, addKeystreams } from "@tutti/kernels/chacha20";
import { walshHadamard } from "@tutti/kernels/hadamard";
import { kernels } from "@tutti/kernels/kernels";
import { addPacked, packBits } from "@tutti/kernels/pack";
import { roundWords } from "@tutti/kernels/quantise";
import { addInto } from "@tutti/kernels/ring";
import { addKeystreamsTwin, addKeystreamTwin } from "@tutti/kernels/twins/chacha20";
import { walshHadamardTwin } from "@tutti/kernels/twins/hadamard";
import { addPackedTwin, packBitsTwin } from "@tutti/kernels/twins/pack";
import { roundWordsTwin } from "@tutti/kernels/twins/quantise";
import { addIntoTwin } from "@tutti/kernels/twins/ring";
import type { Claim } from "../claim.ts";
import { medianSeconds } from "../support/secagg/kernel-speed.ts";

const KEY = Uint8Array.from({ length: 32 }, (_, i) => 7 * i);
/** 4 MiB, as the vector of a large adapter; and 64 KiB, two of which stay in a second-level cache. */
const [LARGE, CACHED] = [1 << 20, 1 << 14];
const BITS = 20;
const MASKS = Array.from({ length: 8 }, (_, i) => ({
  key: KEY.map((byte) => byte ^ i),
  sign: i % 2 === 0 ? (1 as const) : (-1 as const),
}));

type Pair = {
  /** Of the vector, taken once for every mask. */
  readonly bytes: number;
  /** Calls that are measured as one, so that a clock can see them. */
  readonly calls: number;
  readonly compiled: () => void;
  readonly twin: () => void;
  readonly openssl?: () => void;
};

export const claim: Claim = {
  name: "secagg/kernels",
  target:
    "a mask is added at least 2.5 times, and a vector in cache at least 2 times as fast as in TypeScript",
  async run(report) {
    const figures: Record<string, Speeds> = {};
    for (const [name, pair] of Object.entries(pairs())) {
      figures[name] = speeds(pair);
      report(`${name}: ${JSON.stringify(figures[name])}`);
    }
    const holds = kernels() !== null && figures.mask!.timesTwin >= 2.5 && figures.addInCache!.timesTwin >= 2;
    return { figures, holds };
  },
};

function pairs(): Readonly<Record<string, Pair>> {
  const [sum, other] = [new Uint32Array(LARGE).fill(1), new Uint32Array(LARGE).fill(2)];
  const [cached, cachedOther] = [sum.slice(0, CACHED), other.slice(0, CACHED)];
  const values = Float32Array.from(sum, (_, i) => Math.sin(i));
  const packed = packBits(sum, BITS);
  const rounding = { factor: 8000, limit: 1, bits: BITS, key: KEY };
  const zeros = Buffer.alloc(4 * LARGE);
  const large = { bytes: 4 * LARGE, calls: 1 };
  return {
    mask: {
      ...large,
      compiled: () => addKeystream(sum, KEY, 1),
      twin: () => addKeystreamTwin(sum, KEY, 1),
      // The keystream alone: nothing is added to anything.
      openssl: () => createCipheriv("chacha20", KEY, Buffer.alloc(16)).update(zeros),
    },
    eightMasks: {
      bytes: MASKS.length * 4 * LARGE,
      calls: 1,
      compiled: () => addKeystreams(sum, MASKS),
      twin: () => addKeystreamsTwin(sum, MASKS),
    },
    addInCache: {
      bytes: 4 * CACHED,
      calls: 64,
      compiled: () => addInto(cached, cachedOther),
      twin: () => addIntoTwin(cached, cachedOther),
    },
    add: { ...large, compiled: () => addInto(sum, other), twin: () => addIntoTwin(sum, other) },
    pack: { ...large, compiled: () => packBits(sum, BITS), twin: () => packBitsTwin(sum, BITS) },
    addPacked: {
      ...large,
      compiled: () => addPacked(sum, packed, BITS),
      twin: () => addPackedTwin(sum, packed, BITS),
    },
    round: {
      ...large,
      compiled: () => roundWords(values, rounding),
      twin: () => roundWordsTwin(values, rounding),
    },
    walshHadamard: {
      ...large,
      compiled: () => walshHadamard(values),
      twin: () => walshHadamardTwin(values),
    },
  };
}

/** GB (10^9 bytes) of the vector per second and mask, and what that is times the others. */
type Speeds = { readonly gbPerS: number; readonly timesTwin: number; readonly timesOpenssl?: number };

function speeds({ bytes, calls, compiled, twin, openssl }: Pair): Speeds {
  const often = (run: () => void) => () => {
    for (let call = 0; call < calls; call++) run();
  };
  const runs = { compiled: often(compiled), twin: often(twin), openssl: often(openssl ?? (() => {})) };
  const seconds = medianSeconds(runs, 15);
  return {
    gbPerS: round((bytes * calls) / seconds.compiled / 1e9),
    timesTwin: round(seconds.twin / seconds.compiled),
    ...(openssl ? { timesOpenssl: round(seconds.openssl / seconds.compiled) } : {}),
  };
}

function round(value: number): number {
  return Math.round(100 * value) / 100;
}
