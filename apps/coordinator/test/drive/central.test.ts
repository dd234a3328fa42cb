import { hex } from "@tutti/foundation/bytes";
import { sha256Hex } from "@tutti/foundation/hash";
import { packedBytes, unpackBits } from "@tutti/kernels/pack";
import { envelopeFromJson } from "@tutti/release/dsse";
import { gridOfSum, sizeOf } from "@tutti/round/privacy";
import { decodeTranscript } from "@tutti/round/transcript";
import { afterEach, describe, expect, test } from "vitest";
import { openArtifacts } from "../../src/artifacts.ts";
import { plan, temporary } from "./house.ts";
import { World } from "./world.ts";

const places: { remove(): void }[] = [];
afterEach(() => {
  for (const place of places.splice(0)) place.remove();
});

// 14 coordinates and 5 metrics are 32 words: few, so bounds on their variance are wide.
const PLAN = {
  rounds: 1,
  cohort: { min: 4, max: 4 },
  privacy: { mode: "central", noiseMultiplier: 1 },
};

async function world(): Promise<World> {
  const place = temporary();
  places.push(place);
  const one = new World(place.folder, plan(PLAN), ["a", "b", "c", "d"]);
  await one.boot();
  return one;
}

/** Every sum that a round left, as signed words; devices sent zeros, so what they hold is noise. */
async function sumsOf(one: World): Promise<Int32Array[]> {
  const artifacts = openArtifacts(`${one.folder}/artifacts`);
  const { bits } = one.plan.secureAggregation;
  return await Promise.all(
    one.driver.header.history.map(async ({ transcript }) => {
      const { payload } = envelopeFromJson(new TextDecoder().decode(await artifacts.read(transcript)));
      const [cohort] = decodeTranscript(payload).cohorts;
      const bytes = await artifacts.read(hex(cohort!.sumHash));
      expect(sha256Hex(bytes)).toBe(hex(cohort!.sumHash));
      expect(bytes).toHaveLength(packedBytes(bits, cohort!.terms!.length));
      const words = unpackBits(bytes, bits, cohort!.terms!.length);
      return Int32Array.from(words, (word) => (word << (32 - bits)) >> (32 - bits));
    }),
  );
}

describe("noise that the coordinator adds", () => {
  test("is in the sum that it keeps and releases, as wide as the plan asks for", async () => {
    const one = await world();
    await one.live(() => one.driver.round?.phase === "unmasking");
    const sum = one.driver.round!.cohorts[0]!.sum;
    const { spec } = one.driver.round!;
    const size = sizeOf(sum.kind === "secure" ? sum.session.group! : ({} as never));
    const { centralSigma } = gridOfSum(spec, one.plan.privacy!, size);
    await one.live();
    const [trained] = await sumsOf(one);
    const variance = trained!.reduce((total, word) => total + word ** 2, 0) / trained!.length;
    // Chi-square with 32 degrees of freedom: outside these one run in 10^5 at most.
    expect(variance / centralSigma ** 2).toBeGreaterThan(0.3);
    expect(variance / centralSigma ** 2).toBeLessThan(2.6);
    await one.close();
  });

  test("is drawn once: killed after it was added, the coordinator goes on with the same sum", async () => {
    const one = await world();
    const { weather } = one.life;
    let kept = "";
    weather.onOperation = (name) => {
      // The first write of the completion is its strategy's state or its sum: by then there was noise.
      if (name === "putBytes" && kept === "") {
        kept = hex(one.driver.round!.noise!);
        weather.dead = true;
      }
    };
    await one.live(() => kept !== "");
    await one.kill();
    await one.boot();
    // What it was drawn from is the same, so the noise is.
    expect(hex(one.driver.round!.noise!)).toBe(kept);
    await one.live();
    expect(kept).toHaveLength(64);
    expect(one.driver.header.state).toBe("finished");
    expect(await sumsOf(one)).toHaveLength(2);
    await one.close();
  });
});
