import { assert, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { SecretRandom } from "@tutti/foundation/random";

/** A member's place in the roster, as it travels: two bytes, little-endian. */
const PLACE_BYTES = 2;

/**
 * k places out of n other than one's own, uniform over all such sets: each device's own choice by its own
 * CSPRNG, so nobody can bias who holds its shares (Bell et al. 2020, section 3.2, for a malicious server).
 */
export function drawPlaces(
  k: number,
  { n, own }: { n: number; own: number },
  random: SecretRandom,
): number[] {
  assert(k < n, "nobody holds its own share");
  const others = Array.from({ length: n }, (_, place) => place).filter((place) => place !== own);
  // The first k steps of a Fisher–Yates shuffle.
  for (let at = 0; at < k; at++) {
    const pick = at + below(others.length - at, random);
    [others[at], others[pick]] = [others[pick]!, others[at]!];
  }
  return others.slice(0, k).sort((a, b) => a - b);
}

/** Uniform in 0..bound−1; draws that would favour small values are thrown away. */
function below(bound: number, random: SecretRandom): number {
  const fair = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const draw = new DataView(random.bytes(4).buffer).getUint32(0, true);
    if (draw < fair) return draw % bound;
  }
}

export function encodePlaces(places: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(PLACE_BYTES * places.length);
  const view = new DataView(bytes.buffer);
  for (const [at, place] of places.entries()) view.setUint16(PLACE_BYTES * at, place, true);
  return bytes;
}

/** Whether a place is among the holders in a list that `decodePlaces` took before. */
export function isAmong(bytes: Uint8Array, place: number): boolean {
  return placesIn(bytes).includes(place);
}

function placesIn(bytes: Uint8Array): number[] {
  const places = new Array<number>(bytes.length / PLACE_BYTES);
  for (let at = 0; at < places.length; at++) places[at] = bytes[2 * at]! | (bytes[2 * at + 1]! << 8);
  return places;
}

/**
 * The places in a list of holders.
 * @throws Fault("bad-message") unless they are k, ascending, below n, and not its sender's own.
 */
export function decodePlaces(
  what: string,
  bytes: Uint8Array,
  { k, n, own }: { k: number; n: number; own: number },
): number[] {
  const bad = (expected: string, got: string) => () => new Fault("bad-message", what, { expected, got });
  demand(bytes.length === PLACE_BYTES * k, bad(`${k} places of two bytes`, `${bytes.length} bytes`));
  const places = placesIn(bytes);
  const ascending = places.every((place, at) => at === 0 || places[at - 1]! < place);
  demand(ascending, bad("each place once, ascending", "another order"));
  demand(
    places.every((place) => place < n && place !== own),
    bad(`places of other members, below ${n}`, "another"),
  );
  return places;
}
