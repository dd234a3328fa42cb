import { afterEach, describe, expect, test, vi } from "vitest";
import { addKeystreams } from "../src/chacha20.ts";
import { walshHadamard } from "../src/hadamard.ts";
import { addPacked, packBits, unpackBits } from "../src/pack.ts";
import { roundWords } from "../src/quantise.ts";
import { addInto } from "../src/ring.ts";
import { compiled, someWords } from "./oracle.ts";

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
const WORDS = someWords(33_003, 1);
const FLOATS = Float32Array.from(someWords(2 ** 16, 2), (word) => word / 2 ** 32);
const ROUNDING = { factor: 99, limit: 1, bits: 20, key: KEY };

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

describe("between calls the memory of the kernels is empty", () => {
  const calls: Readonly<Record<string, (length: number) => void>> = {
    addKeystreams: (n) => addKeystreams(WORDS.slice(0, n), [{ key: KEY, sign: 1 }]),
    addInto: (n) => addInto(WORDS.slice(0, n), WORDS.slice(0, n)),
    packBits: (n) => packBits(WORDS.slice(0, n), 32),
    unpackBits: (n) => unpackBits(packBits(WORDS.slice(0, n), 31), 31, n),
    addPacked: (n) => addPacked(WORDS.slice(0, n), packBits(WORDS.slice(0, n), 32), 32),
    roundWords: (n) => roundWords(FLOATS.slice(0, n), ROUNDING),
    walshHadamard: (n) => walshHadamard(FLOATS.slice(0, 2 ** Math.ceil(Math.log2(n)))),
  };
  test.each(Object.keys(calls))("after %s, of few words, of a piece and of more", (name) => {
    const memory = new Uint8Array(compiled().code.memory.buffer);
    for (const length of [1, 63, 64, 65, 2048, 4096, WORDS.length]) {
      calls[name]!(length);
      expect(memory.findLastIndex((byte) => byte !== 0)).toBe(-1);
    }
  });
});

describe("where the kernels cannot be had, the twins do the same", () => {
  const withoutKernels = async () => {
    vi.resetModules();
    const { kernels } = await import("../src/kernels.ts");
    expect(kernels()).toBeNull();
    const room = await import("../src/index.ts");
    const target = WORDS.slice();
    room.addKeystream(target, KEY, 1);
    room.addInto(target, WORDS);
    room.addPacked(target, room.packBits(WORDS, 20), 20);
    const turned = FLOATS.slice();
    room.walshHadamard(turned);
    return { target, words: room.roundWords(FLOATS, ROUNDING), turned };
  };

  test.each<[string, () => void]>([
    ["no WebAssembly at all", () => vi.stubGlobal("WebAssembly", undefined)],
    ["no SIMD", () => vi.stubGlobal("WebAssembly", { ...webAssembly(), validate: () => false })],
    ["a policy that forbids to compile", () => vi.stubGlobal("WebAssembly", forbidding())],
  ])("%s", async (_, stub) => {
    const target = WORDS.slice();
    addKeystreams(target, [{ key: KEY, sign: 1 }]);
    addInto(target, WORDS);
    addPacked(target, packBits(WORDS, 20), 20);
    const turned = FLOATS.slice();
    walshHadamard(turned);
    const expected = { target, words: roundWords(FLOATS, ROUNDING), turned };
    stub();
    expect(await withoutKernels()).toEqual(expected);
  });
});

/** The members that are used; they cannot be spread, not being enumerable. */
function webAssembly() {
  const { validate, Module, Instance, CompileError } = WebAssembly;
  return { validate, Module, Instance, CompileError };
}

function forbidding() {
  class Refusing {
    constructor() {
      throw new WebAssembly.CompileError("refused by the page's policy");
    }
  }
  return { ...webAssembly(), Module: Refusing };
}
