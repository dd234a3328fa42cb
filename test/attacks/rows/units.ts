import { createCipheriv } from "node:crypto";
import { asFault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { addKeystream } from "@tutti/kernels/chacha20";
import { pairKey, selfKey } from "@tutti/secagg/keys";
import { dequantise, quantise, type Scale } from "@tutti/update/quantise";
import { equalWords } from "../harness/attempt.ts";
import { random } from "../harness/world.ts";
import { type Outcome, outcomeOf, patch, refused, type Scenario, without, worked } from "../scenario.ts";

const CHACHA = "libs/kernels/src/chacha20.ts";
const KEYS = "libs/secagg/src/keys.ts";
const QUANTISE = "libs/update/src/quantise.ts";
const WORDS = 20_000;

/** RFC 8439 section 2.4 by OpenSSL: 16 bytes of counter and nonce, here all zeros. */
function byOpenSsl(key: Uint8Array): Uint32Array {
  const stream = createCipheriv("chacha20", key, Buffer.alloc(16)).update(Buffer.alloc(4 * WORDS));
  return new Uint32Array(Uint8Array.from(stream).buffer);
}

function stream(key: Uint8Array): Uint32Array {
  const words = new Uint32Array(WORDS);
  addKeystream(words, key, 1);
  return words;
}

/** A stream that repeats itself is no mask: the difference of two places is that of two true words. */
async function knownAnswers(): Promise<Outcome> {
  for (const key of [new Uint8Array(32), random.bytes(32), random.bytes(32)]) {
    const [own, theirs] = [stream(key), byOpenSsl(key)];
    if (equalWords(own, theirs)) continue;
    const at = own.findIndex((word, i) => word !== theirs[i]);
    const again = own.indexOf(own[0]!, 1);
    return worked(
      `another stream than RFC 8439's from word ${at} on; its first word comes again at ${again}`,
    );
  }
  return refused(`RFC 8439, as OpenSSL has it: ${WORDS} words under each of three keys`);
}

/** Changes each of the bits on the way from what two devices agree on to the mask. */
async function everyBit(): Promise<Outcome> {
  const agreed = random.bytes(32);
  const sid = random.bytes(32);
  const ways = {
    "pair mask": (secret: Uint8Array) => pairKey(secret, sid, ["a", "b"]),
    "own mask": (secret: Uint8Array) => selfKey(secret, sid, "a"),
    "mask stream": (secret: Uint8Array) => secret,
  };
  for (const [what, keyOf] of Object.entries(ways)) {
    const key = keyOf(agreed);
    const idle = bits(agreed).filter(
      (changed) => same(keyOf(changed), key) || same(headOf(keyOf(changed)), headOf(key)),
    );
    const still = bits(key).filter((changed) => same(headOf(changed), headOf(key)));
    const free = Math.max(idle.length, still.length);
    if (free > 0) return worked(`${what}: ${256 - free} bits to guess, of 256`);
  }
  return refused("each of 256 bits changes the mask, of secret and of key");
}

function bits(secret: Uint8Array): Uint8Array[] {
  return Array.from({ length: 8 * secret.length }, (_, bit) =>
    secret.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)),
  );
}

function headOf(key: Uint8Array): Uint8Array {
  const words = new Uint32Array(16);
  addKeystream(words, key, 1);
  return new Uint8Array(words.buffer);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

const SCALE: Scale = { bits: 16, devices: 9, clip: 1, maxWeight: 10, metrics: [10] };

/** As many devices as there may be, each at its bound: a sum that wraps comes out with its sign lost. */
async function atTheBound(): Promise<Outcome> {
  const words = quantise(
    { update: Float32Array.of(1, -1), weight: 10, metrics: [10] },
    SCALE,
    seededRandom(1),
  );
  const mask = 2 ** SCALE.bits - 1;
  const sum = words.map((word) => (word * SCALE.devices) & mask);
  const { mean } = dequantise(sum, { scale: SCALE, length: 2, devices: SCALE.devices });
  if (Math.abs(mean[0]! - 1) < 1e-3 && Math.abs(mean[1]! + 1) < 1e-3)
    return refused("nine at the bound add up to it");
  return worked(`a mean of ${mean[0]!.toFixed(2)} and ${mean[1]!.toFixed(2)}, where all said 1 and -1`);
}

/** Values that no device should send, and what becomes of them. */
async function beyond(update: Float32Array, weight: number): Promise<Outcome> {
  return await outcomeOf(async () => {
    try {
      const words = quantise({ update, weight, metrics: [0] }, SCALE, seededRandom(1));
      const { mean, weight: counted } = dequantise(words, {
        scale: SCALE,
        length: update.length,
        devices: 1,
      });
      if (counted <= SCALE.maxWeight && mean.every((value) => Math.abs(value) <= 1))
        return refused("cut to its bound");
      return worked(`a weight of ${counted}, a mean of ${[...mean].join(" and ")}`);
    } catch (error) {
      return refused(asFault(error));
    }
  });
}

export const UNITS: readonly Scenario[] = [
  {
    row: 11,
    name: "as many devices as there may be, each at its bound: wrap-around",
    harness: "unit",
    mutations: [
      without(
        "n (2B + 1) ≤ 2^b",
        patch(
          QUANTISE,
          "Math.floor((Math.floor(2 ** bits / devices) - 1) / 2)",
          "Math.floor((2 ** bits - 1) / 2)",
        ),
        patch(QUANTISE, "if (Math.abs(value) <= devices * b) return value;", "return value;"),
      ),
    ],
    run: atTheBound,
  },
  {
    row: 11,
    name: "a device's weight above the bound",
    harness: "unit",
    mutations: [
      without(
        "a weight is cut to its bound, and its word to the grid",
        patch(
          QUANTISE,
          "round(Math.min(2 * b, cut(value, 0, bound) * density(bound, b)), random)",
          "round(value * density(bound, b), random)",
        ),
        patch(QUANTISE, "if (Math.abs(value) <= devices * b) return value;", "return value;"),
      ),
    ],
    run: () => beyond(Float32Array.of(0.5), 25),
  },
  {
    row: 11,
    name: "an update that is not finite",
    harness: "unit",
    mutations: [without("every coordinate is finite", patch(QUANTISE, 'checkFinite("update", update);', ""))],
    run: () => beyondNaN(),
  },
  {
    row: 12,
    name: "a mask stream other than RFC 8439's",
    harness: "unit",
    mutations: [
      without(
        "a block's own number",
        patch(
          CHACHA,
          "wasm.code.mask(at, at + 4 * piece.length, block,",
          "wasm.code.mask(at, at + 4 * piece.length, 0,",
        ),
      ),
    ],
    run: knownAnswers,
  },
  {
    row: 12,
    name: "fewer than 256 bits between a secret and its mask",
    harness: "unit",
    mutations: [
      without(
        "all 32 bytes are the stream's key",
        patch(CHACHA, "wasm.key.set(key);", "wasm.key.fill(0);\n      wasm.key.set(key.subarray(0, 16));"),
      ),
      without(
        "all 32 bytes of what was agreed make the pair's key",
        patch(
          KEYS,
          'return hkdf(secret, sid, canonical("pair", low, high));',
          'return hkdf(secret.subarray(0, 16), sid, canonical("pair", low, high));',
        ),
      ),
    ],
    run: everyBit,
  },
];

/** NaN has no word: whatever it became would be taken for training. */
async function beyondNaN(): Promise<Outcome> {
  const found = await beyond(Float32Array.of(Number.NaN, 0.5), 1);
  return found.kind === "refused" && found.because.startsWith("cut")
    ? worked("NaN went in as a number")
    : found;
}
