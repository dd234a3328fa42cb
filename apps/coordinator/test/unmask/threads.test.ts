import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { platformRandom } from "@tutti/foundation/random";
import { newKeyPair, selfKey } from "@tutti/secagg/keys";
import { type Lift, liftMasks } from "@tutti/secagg/server/lift";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { nativeAgree } from "../../src/native.ts";
import { piecesOf } from "../../src/unmask/pieces.ts";
import { LiftPool } from "../../src/unmask/pool.ts";
import { Thread } from "../../src/unmask/worker.ts";

const random = platformRandom();
const SID = random.bytes(32);
const KEYS = Array.from({ length: 12 }, (_, at) => ({ name: `d${at}`, ...newKeyPair(random) }));

/** A lift as an unmasking makes it: a survivor's own mask, or a lost device's pairs with `pairs` others. */
function liftOf(at: number, pairs: number | null): Lift {
  const { name, secretKey } = KEYS[at % KEYS.length]!;
  if (pairs === null) return { kind: "self", key: selfKey(random.bytes(32), SID, name) };
  const neighbours = KEYS.filter((other) => other.name !== name).slice(0, pairs);
  return {
    kind: "pairs",
    lost: name,
    secret: secretKey.slice(),
    sid: SID,
    neighbours: neighbours.map(({ name, publicKey }) => ({ name, maskKey: publicKey })),
  };
}

async function inline(sum: Uint32Array, lifts: readonly Lift[]): Promise<Uint32Array> {
  const plain = sum.slice();
  await liftMasks(plain, structuredClone(lifts), { agree: nativeAgree });
  return plain;
}

const pairCounts = fc.array(fc.option(fc.nat(11)), { maxLength: 20 });

/** Enough for two threads to take a while. */
const MANY = Array.from({ length: 30 }, () => 11);

describe("unmasking on threads", () => {
  const pool = new LiftPool({ threads: 2, inlineWords: 0 });
  afterAll(() => pool.close());

  test("bit for bit what one thread takes off, for any lifts and length", async () => {
    await fc.assert(
      fc.asyncProperty(pairCounts, fc.integer({ min: 1, max: 5000 }), async (counts, length) => {
        const lifts = counts.map((pairs, at) => liftOf(at, pairs));
        const sum = Uint32Array.from({ length }, (_, at) => at * 2654435761);
        const expected = await inline(sum, lifts);
        await pool.lift(sum, lifts);
        expect(sum).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  test("two sums at once wait for each other", async () => {
    const sums = [new Uint32Array(3000), new Uint32Array(500)];
    const lifts = sums.map((_, at) => MANY.map((pairs, i) => liftOf(i + at, pairs)));
    const expected = await Promise.all(sums.map((sum, at) => inline(sum, lifts[at]!)));
    await Promise.all(sums.map((sum, at) => pool.lift(sum, lifts[at]!)));
    expect(sums).toEqual(expected);
  });

  test("a neighbour's key of small order fails it by name, and the next one succeeds", async () => {
    const bad = liftOf(0, 3);
    if (bad.kind !== "pairs") throw new Error("pairs were asked for");
    bad.neighbours[1]!.maskKey.fill(0);
    await expect(pool.lift(new Uint32Array(100), [liftOf(1, null), bad])).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining("mask key of"),
    });
    KEYS.splice(0, KEYS.length, ...KEYS.map(({ name }) => ({ name, ...newKeyPair(random) })));
    const [sum, lifts] = [new Uint32Array(100), [liftOf(1, null)]];
    const expected = await inline(sum, lifts);
    await pool.lift(sum, lifts);
    expect(sum).toEqual(expected);
  });
});

describe("threads that end", () => {
  test("one that dies fails the unmasking as something to try again, and trying again works", async () => {
    const started: Thread[] = [];
    const startThread = () => {
      const thread = new Thread();
      started.push(thread);
      return thread;
    };
    const pool = new LiftPool({ threads: 2, inlineWords: 0, startThread });
    const sum = new Uint32Array(1 << 12);
    const lifts = MANY.map((pairs, at) => liftOf(at, pairs));
    const expected = await inline(sum, lifts);
    const working = pool.lift(sum.slice(), structuredClone(lifts));
    await new Promise((resolve) => setImmediate(resolve));
    await started[1]!.worker.terminate();
    await expect(working).rejects.toMatchObject({ code: "unavailable" });
    await pool.lift(sum, lifts);
    expect(sum).toEqual(expected);
    expect(started).toHaveLength(4);
    await pool.close();
  });

  test("one that dies idle is replaced", async () => {
    const started: Thread[] = [];
    const pool = new LiftPool({
      threads: 1,
      inlineWords: 0,
      startThread: () => {
        started.push(new Thread());
        return started.at(-1)!;
      },
    });
    await pool.lift(new Uint32Array(10), [liftOf(0, null)]);
    await started[0]!.worker.terminate();
    await pool.lift(new Uint32Array(10), [liftOf(0, null)]);
    expect(started).toHaveLength(2);
    await pool.close();
  });

  test("closing while they work cancels, and a closed pool takes nothing more", async () => {
    const pool = new LiftPool({ threads: 2, inlineWords: 0 });
    const working = pool.lift(
      new Uint32Array(1 << 14),
      MANY.map((pairs, at) => liftOf(at, pairs)),
    );
    const waiting = pool.lift(new Uint32Array(10), [liftOf(0, null)]);
    const outcomes = Promise.allSettled([working, waiting]);
    await new Promise((resolve) => setImmediate(resolve));
    await pool.close();
    for (const outcome of await outcomes)
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "cancelled" } });
  });

  test("idle ones hold no process open, and start under tsx as under these tests", async () => {
    const script = fileURLToPath(new URL("./idle.mjs", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 50_000 });
    expect(stdout).toBe("1000 words\n");
  });
});

describe("pieces", () => {
  test("hold every stream once, and shrink to one walk over the vector", () => {
    fc.assert(
      fc.property(pairCounts, fc.integer({ min: 1, max: 8 }), (counts, threads) => {
        const lifts = counts.map((pairs, at) => liftOf(at, pairs));
        const take = piecesOf(lifts, { threads, length: 1 << 22 });
        const seen: Lift[] = [];
        const sizes: number[] = [];
        for (let piece = take(); piece !== null; piece = take()) {
          seen.push(...piece);
          sizes.push(piece.flatMap(streamNames).length);
        }
        expect(seen.flatMap(streamNames).sort()).toEqual(lifts.flatMap(streamNames).sort());
        expect([...sizes].sort((a, b) => b - a)).toEqual(sizes);
        expect(sizes[0] ?? 0).toBeLessThanOrEqual(Math.max(2, Math.ceil(total(sizes) / (4 * threads))));
      }),
    );
  });

  test("copy secrets, so that what a message moves is nobody else's", () => {
    const pooled = new Uint8Array(64).fill(7);
    const [piece] = piecesOf([{ kind: "self", key: pooled.subarray(16, 48) }], { threads: 1, length: 1 })()!;
    if (piece?.kind !== "self") throw new Error("a self mask went in");
    expect(piece.key.buffer.byteLength).toBe(32);
    expect(piece.key.buffer).not.toBe(pooled.buffer);
  });
});

function streamNames(lift: Lift): string[] {
  if (lift.kind === "self") return [`self ${lift.key}`];
  return lift.neighbours.map(({ name, maskKey }) => `${lift.lost} ${lift.secret} ${name} ${maskKey}`);
}

function total(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}
