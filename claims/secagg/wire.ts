import { packedBytes } from "@tutti/kernels/pack";
import { METRICS } from "@tutti/plan/metrics";
import type { Claim } from "../claim.ts";
import { counter } from "../support/secagg/counter.ts";
import { idleRun, withHall } from "../support/secagg/hall.ts";
import { OneDevice, type PerStage, type Stage } from "../support/secagg/one-device.ts";

const [DEVICES, BITS, MOST] = [100, 16, 1.1];
/** Of the real session beside it, in which framing is measured. */
const FEW = 12;
/** A TLS 1.3 record holds 16 KiB, its overhead is 22 bytes, and that of an HTTP/2 frame in it 9. */
const [RECORD_BYTES, RECORD_OVERHEAD] = [16_384, 31];
/** How the coordinator names the phase in which each message comes. */
const PHASES = {
  advertise: "advertising",
  share: "sharing",
  upload: "masking",
  attest: "attesting",
  reveal: "revealing",
} as const satisfies Partial<Record<Stage, string>>;

export const claim: Claim = {
  name: "secagg/wire",
  target:
    `all that a device sends for a sum of ${DEVICES} with 10^5 words of ${BITS} bits (advertise, share, ` +
    `upload, attest, reveal, and their framing by gRPC, HTTP/2 and TLS) is at most ${MOST} times the ` +
    "vector's own bits",
  async run(report) {
    const real = await onSocket(report);
    const { words } = real;
    const few = await encodedBytes(FEW, words);
    const many = await encodedBytes(DEVICES, words);
    const sent: Record<string, { encoded: number; framing: number }> = {};
    for (const stage of Object.keys(PHASES) as (keyof typeof PHASES)[]) {
      const more = Math.ceil((many[stage]! - few[stage]!) / RECORD_BYTES) * RECORD_OVERHEAD;
      sent[stage] = { encoded: many[stage]!, framing: real.sent[stage]! - few[stage]! + more };
    }
    const total = Object.values(sent).reduce((sum, { encoded, framing }) => sum + encoded + framing, 0);
    const vectorBytes = packedBytes(BITS, words);
    const ratio = Math.round((total / vectorBytes) * 1e4) / 1e4;
    const figures = { devices: DEVICES, words, bits: BITS, vectorBytes, totalBytes: total, ratio, sent };
    const onTheSocket = { devices: FEW, bytes: real.sent };
    return { figures: { ...figures, nameBytes: "device-00".length, onTheSocket }, holds: ratio <= MOST };
  },
};

/** Messages of one device among n, by stage, as the SDK encodes them. */
async function encodedBytes(n: number, length: number): Promise<PerStage> {
  const device = new OneDevice({ n, length, bits: BITS }, {}, () => 0);
  return (await device.play()).bytes;
}

/**
 * A small session over gRPC and TLS, through a proxy that counts what one device puts on its socket; the
 * second round, when everything is connected.
 */
async function onSocket(
  report: (line: string) => void,
): Promise<{ words: number; sent: Record<keyof typeof PHASES, number> }> {
  let counting: Awaited<ReturnType<typeof counter>> | undefined;
  const through = async (address: string) => {
    counting = await counter(address);
    return counting.address;
  };
  try {
    return await withHall({ devices: FEW, processes: 2, through }, async (hall) => {
      const prepared = idleRun({ devices: FEW, rounds: 2, bits: BITS });
      const at = new Map<string, number>();
      const order: string[] = [];
      await hall.rounds(prepared, (phase) => {
        at.set(phase, counting!.upBytes());
        order.push(phase);
        report(`${phase}: ${at.get(phase)} bytes so far`);
      });
      const sizes = prepared.plan.tensors.map(({ shape }) => shape.reduce((a, b) => a * b));
      const words = sizes.reduce((a, b) => a + b) + 1 + METRICS.length;
      const during = (phase: string) => {
        const next = order[order.indexOf(`1 ${phase}`) + 1]!;
        return at.get(next)! - at.get(`1 ${phase}`)!;
      };
      const sent = Object.entries(PHASES).map(([stage, phase]) => [stage, during(phase)] as const);
      return { words, sent: Object.fromEntries(sent) as Record<keyof typeof PHASES, number> };
    });
  } finally {
    counting?.close();
  }
}
