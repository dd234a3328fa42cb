import { sha256 } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { addKeystreams, type Keystream } from "@tutti/kernels/chacha20";
import { packBits } from "@tutti/kernels/pack";
import { open, seal } from "@tutti/secagg/envelope";
import { envelopeKey, newKeyPair } from "@tutti/secagg/keys";
import { SHARE_BYTES, splitSecret } from "@tutti/secagg/shares";
import { OneDevice, type PerStage, type Platform, type Played, type Size } from "./one-device.ts";

/** Milliseconds of CPU where a platform tells them, of the clock where not. */
export type ClockMs = () => number;

/** What one device's sum costs, in milliseconds; a round in all, and by stage. */
export type Cost = {
  /** Mask streams, and what the kernel needs for as many of them over as many words: the floor. */
  readonly streams: number;
  readonly floorMs: number;
  /** No peer's key seen before, no code run before. */
  readonly firstMs: number;
  readonly firstStages: PerStage;
  /** Peers known from an earlier round: the round with the median total. */
  readonly steadyMs: number;
  readonly steadyStages: PerStage;
  readonly ratio: number;
  /**
   * How many of each primitive a steady round takes, and milliseconds. Signatures asked for include those of
   * certificates, which are remembered; they and agreements are timed in the round, the others by themselves.
   */
  readonly primitives: Readonly<Record<string, readonly [count: number, ms: number]>>;
};

export type Case = Size & { readonly rounds: number };

const random = platformRandom();
/** Of each primitive by itself; the median counts. */
const TRIES = 5;

/** A first round and `rounds` more, the floor measured between them; then one in which calls are counted. */
export async function costOf({ rounds, ...size }: Case, platform: Platform, clockMs: ClockMs): Promise<Cost> {
  const watch = watched(platform, clockMs);
  const device = new OneDevice(size, watch.platform, clockMs);
  const first = await device.play();
  // A key is let in when it first signs for this device; neighbours change, and after this round all have.
  await device.play();
  const steady: Played[] = [];
  const floors: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const played = await device.play();
    steady.push(played);
    floors.push(floorMs(played.streams, size.length, clockMs));
  }
  steady.sort((a, b) => totalOf(a.ms) - totalOf(b.ms));
  const middle = steady[rounds >> 1]!;
  const floor = median(floors);
  watch.counting = true;
  const counted = await device.play();
  return {
    streams: middle.streams,
    floorMs: tenth(floor),
    firstMs: tenth(totalOf(first.ms)),
    firstStages: tenths(first.ms),
    steadyMs: tenth(totalOf(middle.ms)),
    steadyStages: tenths(middle.ms),
    ratio: Math.round((100 * totalOf(middle.ms)) / floor) / 100,
    primitives: {
      maskStreams: [middle.streams, tenth(floor)],
      ...Object.fromEntries(
        Object.entries(watch.calls).map(([what, [count, ms]]) => [what, [count, tenth(ms)]]),
      ),
      ...(await primitivesOf(size, counted, clockMs)),
    },
  };
}

/** The mask kernel over `length` words, for so many keys. */
function floorMs(streams: number, length: number, clockMs: ClockMs): number {
  const target = new Uint32Array(length);
  const masks = Array.from({ length: streams }, (): Keystream => ({ key: random.bytes(32), sign: 1 }));
  return spentOn(clockMs, () => addKeystreams(target, masks));
}

type Calls = Record<"signaturesAskedFor" | "agreements", [count: number, ms: number]>;

/** The same platform; while `counting`, calls are counted and charged, with what reading the clock costs. */
function watched(platform: Platform, clockMs: ClockMs) {
  const calls: Calls = { signaturesAskedFor: [0, 0], agreements: [0, 0] };
  const watch = { counting: false, calls, platform };
  const around =
    <Given extends readonly unknown[], Result>(
      what: keyof Calls,
      { call, count }: { call: (...given: Given) => Result; count: (...given: Given) => number },
    ) =>
    (...given: Given): Result => {
      if (!watch.counting) return call(...given);
      const since = clockMs();
      const charge = () => {
        calls[what][0] += count(...given);
        calls[what][1] += clockMs() - since;
      };
      const result = call(...given);
      if (result instanceof Promise) result.then(charge);
      else charge();
      return result;
    };
  const { verify, agree, verifyAll, agreeAll } = platform;
  watch.platform = {
    ...(verify && { verify: around("signaturesAskedFor", { call: verify, count: () => 1 }) }),
    ...(agree && { agree: around("agreements", { call: agree, count: () => 1 }) }),
    ...(verifyAll && {
      verifyAll: around("signaturesAskedFor", { call: verifyAll, count: (checks) => checks.length }),
    }),
    ...(agreeAll && { agreeAll: around("agreements", { call: agreeAll, count: (_, keys) => keys.length }) }),
  };
  return watch;
}

/** Each of the other primitives as often as a round uses it, by itself. */
async function primitivesOf({ length, bits }: Size, played: Played, clockMs: ClockMs) {
  const { holders, sharers, threshold, streams } = played;
  const names = Array.from({ length: holders }, (_, at) => `device-${at}`);
  const [sid, key] = [random.bytes(32), random.bytes(32)];
  const route = { from: "device-1", to: "device-2" };
  const shares = { maskKeyShare: random.bytes(SHARE_BYTES), seedShare: random.bytes(SHARE_BYTES) };
  const sealed = seal(key, { ...route, ...shares });
  const words = new Uint32Array(length);
  const packed = packBits(words, bits);
  const times = (count: number, work: () => unknown): [number, number] => {
    const each = () => {
      for (let i = 0; i < count; i++) work();
    };
    return [count, tenth(median(Array.from({ length: TRIES }, () => spentOn(clockMs, each))))];
  };
  const splits: number[] = [];
  for (let i = 0; i < TRIES; i++) {
    const since = clockMs();
    for (let of = 0; of < 2; of++) await splitSecret(key, { holders: names, threshold });
    splits.push(clockMs() - since);
  }
  return {
    keyPairs: times(2, () => newKeyPair(random)),
    shamirSplits: [2, tenth(median(splits))],
    // A key for each mask, and one for each envelope.
    hkdf: times(streams + holders + sharers, () => envelopeKey(key, sid, route)),
    envelopesSealed: times(holders, () => seal(key, { ...route, ...shares })),
    envelopesOpened: times(sharers, () => open(key, sealed, route)),
    packing: times(1, () => packBits(words, bits)),
    uploadHash: times(1, () => sha256(packed)),
  } as const;
}

function spentOn(clockMs: ClockMs, work: () => unknown): number {
  const since = clockMs();
  work();
  return clockMs() - since;
}

function totalOf(stages: PerStage): number {
  return Object.values(stages).reduce((sum, ms) => sum + ms, 0);
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

function tenth(ms: number): number {
  return Math.round(10 * ms) / 10;
}

function tenths(stages: PerStage): PerStage {
  return Object.fromEntries(Object.entries(stages).map(([stage, ms]) => [stage, tenth(ms)]));
}
