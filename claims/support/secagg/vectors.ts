import { browserAgree } from "@tutti/client-sdk/browser/agree";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { equalBytes, fromHex, hex } from "@tutti/foundation/bytes";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { kernels } from "@tutti/kernels/kernels";
import { agree, publicKeyOf } from "@tutti/secagg/agree";
import { findGraph } from "@tutti/secagg/finder";
import { splitSecret } from "@tutti/secagg/shares";
import { combine } from "shamir-secret-sharing";
import { VECTORS as STREAMS } from "../../../libs/kernels/test/rfc8439.ts";
import { VECTORS as SIZES } from "../../../libs/secagg/test/finder-vectors.ts";

/** How many were checked, and what is wrong, in words. */
export type Checked = { readonly vectors: number; readonly wrong: readonly string[] };

const random = platformRandom();

/** RFC 8439, sections 2.3, 2.4 and appendix A, by the compiled kernel. */
export function checkChaCha20(): Checked {
  const wasm = kernels();
  if (!wasm) return { vectors: 0, wrong: ["the kernels do not compile here"] };
  const wrong = STREAMS.flatMap(({ section, key, nonce, block, text, out }) => {
    wasm.key.set(fromHex(key));
    wasm.nonce.set(new Uint32Array(fromHex(nonce).buffer));
    const words = Math.ceil(text.length / 4);
    const at = wasm.code.A.value;
    wasm.code.mask(at, at + 4 * words, block, 0);
    const stream = new Uint8Array(wasm.a.slice(0, words).buffer);
    wasm.wipe(words);
    const got = hex(Uint8Array.from(text, (byte, i) => byte ^ stream[i]!));
    return got === out ? [] : [`RFC 8439 section ${section}: ${got}`];
  });
  return { vectors: STREAMS.length, wrong };
}

/** Degree and threshold for given sizes, computed apart from this code. */
export function checkFinder(): Checked {
  const wrong = SIZES.flatMap(([n, corrupt, lost, malicious, degree, threshold]) => {
    const got = findGraph({ n, corrupt, lost, malicious });
    const same = got.degree === degree && got.threshold === threshold;
    return same ? [] : [`${n} members: k = ${got.degree}, t = ${got.threshold}`];
  });
  return { vectors: SIZES.length, wrong };
}

/**
 * What we split the package's combine puts together, and Lagrange's formula over GF(256) as well; one share
 * fewer gives something else.
 */
export async function checkShamir(cases: number): Promise<Checked> {
  const dice = seededRandom("claims/secagg/vectors");
  const wrong: string[] = [];
  for (let i = 0; i < cases; i++) {
    const n = 3 + dice.below(98);
    const threshold = 2 + dice.below(n - 1);
    const secret = random.bytes(32);
    const holders = Array.from({ length: n }, (_, at) => `d${at}`);
    const shares = [...(await splitSecret(secret, { holders, threshold })).values()];
    const chosen = dice.shuffle(shares).slice(0, threshold);
    const fewer = chosen.slice(1);
    if (!equalBytes(await combine(chosen), secret)) wrong.push(`combine, ${threshold} of ${n}`);
    if (!equalBytes(interpolated(chosen), secret)) wrong.push(`Lagrange, ${threshold} of ${n}`);
    if (equalBytes(interpolated(fewer), secret))
      wrong.push(`${threshold - 1} shares of ${threshold} give it too`);
  }
  return { vectors: cases, wrong };
}

/** Shamir 1979 at x = 0, in AES's field as FIPS 197 section 4.2 multiplies; a share's last byte is its x. */
function interpolated(shares: readonly Uint8Array[]): Uint8Array {
  const xs = shares.map((share) => share.at(-1)!);
  const weights = xs.map((x, i) =>
    xs.reduce((product, other, j) => (i === j ? product : times(product, over(other, other ^ x))), 1),
  );
  const at = (byte: number) => shares.reduce((sum, share, i) => sum ^ times(weights[i]!, share[byte]!), 0);
  return Uint8Array.from({ length: 32 }, (_, byte) => at(byte));
}

function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit++) {
    if ((b >> bit) & 1) product ^= a;
    a = (a << 1) ^ (a & 0x80 ? 0x11b : 0);
  }
  return product;
}

/** a/b, where b^254 is 1/b. */
function over(a: number, b: number): number {
  let quotient = a;
  for (let i = 0; i < 254; i++) quotient = times(quotient, b);
  return quotient;
}

/** RFC 7748 section 5.2: scalar, u, result. */
const X25519 = [
  [
    "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
    "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
    "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
  ],
  [
    "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
    "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
    "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
  ],
] as const;
/** Section 5.2 again: 9 multiplied by itself so often, each result the next scalar. */
const ITERATED = [
  [1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"],
  [1000, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"],
] as const;

/** The RFC's vectors, and random keys on which all three must agree: tweetnacl, node:crypto, WebCrypto. */
export async function checkX25519(keys: number): Promise<Checked> {
  const agreeAll = await browserAgree();
  if (!agreeAll) return { vectors: 0, wrong: ["WebCrypto has no X25519 here"] };
  const ways: Record<string, (secret: Uint8Array, theirs: Uint8Array) => Promise<Uint8Array | null>> = {
    tweetnacl: async (secret, theirs) => agree(secret, theirs),
    "node:crypto": async (secret, theirs) => nativeAgree(secret, theirs),
    WebCrypto: async (secret, theirs) => (await agreeAll(secret, [theirs]))[0]!,
  };
  const wrong: string[] = [];
  for (const [way, agreed] of Object.entries(ways)) {
    for (const [secret, theirs, expected] of X25519) {
      const got = await agreed(fromHex(secret), fromHex(theirs));
      if (!got || hex(got) !== expected) wrong.push(`${way}, RFC 7748 section 5.2: ${got && hex(got)}`);
    }
    let [k, u] = [new Uint8Array(32), new Uint8Array(32)];
    k[0] = u[0] = 9;
    for (let i = 1; i <= 1000; i++) {
      const result: Uint8Array = (await agreed(k, u))!;
      [k, u] = [new Uint8Array(result), k];
      const expected = ITERATED.find(([times]) => times === i)?.[1];
      if (expected && hex(k) !== expected) wrong.push(`${way}, RFC 7748 section 5.2, ${i} times: ${hex(k)}`);
    }
  }
  for (let i = 0; i < keys; i++) {
    const [secret, theirs] = [random.bytes(32), publicKeyOf(random.bytes(32))];
    const got = await Promise.all(Object.values(ways).map((agreed) => agreed(secret, theirs)));
    if (new Set(got.map((bytes) => bytes && hex(bytes))).size > 1) wrong.push(`random key ${i}: they differ`);
  }
  return { vectors: 3 * (X25519.length + ITERATED.length) + keys, wrong };
}
