import type { Link } from "@tutti/client-sdk/link";
import { hex } from "@tutti/foundation/bytes";
import { seededRandom } from "@tutti/foundation/random";
import type { UploadPart } from "@tutti/wire/secagg";
import type { Claim } from "../claim.ts";
import { type Break, openProxy, type Relay, type Way } from "../support/chaos/proxy.ts";
import { type House, withHouse } from "../support/coordinator/house.ts";
import { largeRun, openSlow, type Sending } from "../support/coordinator/slow.ts";

const ROUND_TRIP_MS = 50;
const WARM = 5;
const COLD = 1;
const CUTS = 5;
/** Of the link that breaks, 80 Mbit/s: what is under way when it does is what such a link holds. */
const BROKEN_BYTES_PER_S = 10e6;
const [MOST_MS, MOST_RESENT, LEAST_BYTES] = [300, 0.1, 4e6];

export const claim: Claim = {
  name: "coordinator/slow-link",
  target:
    `4 MB at ${ROUND_TRIP_MS} ms round trip are uploaded in ${MOST_MS} ms (median); with ${CUTS} cuts at ` +
    "random bytes, where what left the device arrives, the upload completes, and at most " +
    `${MOST_RESENT * 100} % are sent again; over cuts that lose what is under way it completes: what is ` +
    "sent there again is measured and not judged, as are uploads over a new connection",
  async run(report) {
    const policy = { requireSecureAggregation: false };
    return await withHouse({ devices: 1, processes: 1, inMemory: true, policy }, async (house) => {
      const [up, down]: [Way, Way] = [{ delayMs: ROUND_TRIP_MS / 2 }, { delayMs: ROUND_TRIP_MS / 2 }];
      const proxy = await openProxy({ port: portOf(house), up, down });
      try {
        return await measure(house, { proxy, up }, report);
      } finally {
        await proxy.close();
      }
    });
  },
};

/** Every upload of one run, each over the link in its own way, when the other device's is through. */
async function measure(
  house: House,
  { proxy, up }: { proxy: Relay; up: Way },
  report: (line: string) => void,
) {
  const warm: Sample[] = [];
  const cold: Sample[] = [];
  const cut = new Map<string, Broken>();
  const whole = () => median(warm.map(({ bytes }) => bytes));
  const ways: Sending[] = [
    ...Array.from({ length: WARM }, () => timed(proxy, warm)),
    ...Array.from({ length: COLD }, () => timed(proxy, cold, () => slow.open())),
    ...(["close", "reset"] as const).map((how) =>
      broken(proxy, { how, whole }, (result) => {
        cut.set(how, result);
        report(`cut by ${how}: ${JSON.stringify(result)}; progress ${slow.shares.splice(0).join(" ")}`);
      }),
    ),
  ];
  let [done, last] = [0, ""];
  const slow = await openSlow(await house.enrol("slow"), proxy.port, async (link, parts) => {
    const session = await sessionOf(parts);
    const way = ways[done];
    // After a reconnect the device hears the round's word again, and says again what it said.
    if (!way || session === last) return await link.upload(parts);
    if (done === WARM + COLD) up.bytesPerS = BROKEN_BYTES_PER_S;
    await house.met(() => uploads(house) > done);
    const reply = await way(link, parts);
    last = session;
    report(`upload ${++done} of ${ways.length}`);
    return reply;
  });
  const stop = new AbortController();
  const serving = slow.device.participate({ once: false, signal: stop.signal });
  const status = await house.over(await house.begin(largeRun("slow-link", ways.length)));
  stop.abort();
  await serving.catch(() => {});
  await slow.device.close();
  if (status.state !== "finished") throw new Error(`${status.reason}; ${slow.refused.join("; ")}`);
  return judged({ warm, cold, close: cut.get("close")!, reset: cut.get("reset")! });
}

async function sessionOf(parts: AsyncIterable<UploadPart>): Promise<string> {
  for await (const { part } of parts) if (part.case === "header") return hex(part.value.session);
  return "";
}

function uploads(house: House): number {
  return house.said.filter((said) => said.kind === "acknowledged" && said.stage === "upload").length;
}

type Measured = {
  readonly warm: readonly Sample[];
  readonly cold: readonly Sample[];
  readonly close: Broken;
  readonly reset: Broken;
};

function judged({ warm, cold, close, reset }: Measured) {
  const ms = (samples: readonly Sample[]) => samples.map((sample) => sample.ms);
  const warmMs = median(ms(warm));
  const figures = {
    uploadBytes: Math.round(median(warm.map(({ bytes }) => bytes))),
    roundTripMs: ROUND_TRIP_MS,
    warmMs,
    warmAllMs: ms(warm),
    coldAllMs: ms(cold),
    cuts: close.cuts,
    linkMbit: (BROKEN_BYTES_PER_S * 8) / 1e6,
    resent: close.resent,
    resentWhereBytesUnderWayAreLost: reset.resent,
    arrivedTwiceThere: reset.arrivedTwice,
  };
  const whole = close.cuts === CUTS && reset.cuts === CUTS && figures.uploadBytes >= LEAST_BYTES;
  const resent = close.resent >= 0 && close.resent <= MOST_RESENT;
  return { figures, holds: whole && warmMs <= MOST_MS && resent };
}

type Sample = { readonly ms: number; readonly bytes: number };

/** An upload over the device's own connection, or over one that is made for it, greeting and all. */
function timed(proxy: Relay, samples: Sample[], open?: () => Link): Sending {
  return async (link, parts) => {
    const [startMs, startBytes] = [performance.now(), proxy.counts.upTaken];
    const over = open?.() ?? link;
    const reply = await over.upload(parts);
    samples.push({
      ms: Math.round(performance.now() - startMs),
      bytes: proxy.counts.upTaken - startBytes,
    });
    if (open) over.close();
    return reply;
  };
}

/** How often a link broke during one upload, and which share of it the device, and the link, sent again. */
type Broken = { readonly cuts: number; readonly resent: number; readonly arrivedTwice: number };

/**
 * One upload over a link that breaks at random bytes of what the device sends. With `close`, what left the
 * device arrives; with `reset`, what is under way is lost, of which no protocol can know.
 */
function broken(
  proxy: Relay,
  { how, whole }: { how: Break; whole: () => number },
  onWhole: (result: Broken) => void,
): Sending {
  const dice = seededRandom(`slow-link ${how}`);
  let at: number[] | null = null;
  let cuts = 0;
  let start = { taken: 0, passed: 0 };
  const now = () => ({ taken: proxy.counts.upTaken, passed: proxy.counts.upPassed });
  return async (link, parts) => {
    if (at === null) {
      start = now();
      at = Array.from({ length: CUTS }, () => dice.uniform() * whole()).sort((a, b) => a - b);
    }
    const [soonest] = at;
    if (soonest !== undefined)
      proxy.breakAt(Math.max(1, Math.floor(soonest - (now().taken - start.taken))), how);
    try {
      const reply = await link.upload(parts);
      const all = whole();
      const resent = share(now().taken - start.taken, all);
      onWhole({ cuts, resent, arrivedTwice: share(now().passed - start.passed, all) });
      return reply;
    } catch (error) {
      cuts += at.splice(0, 1).length;
      throw error;
    }
  };
}

function share(bytes: number, whole: number): number {
  return Math.round(((bytes - whole) / whole) * 1000) / 1000;
}

function portOf(house: House): number {
  const [serving] = house.coordinator.said.flatMap((said) => (said.kind === "serving" ? [said.address] : []));
  return Number(serving?.split(":").at(-1));
}

function median(of: readonly number[]): number {
  return [...of].sort((a, b) => a - b)[of.length >> 1] ?? Number.NaN;
}
