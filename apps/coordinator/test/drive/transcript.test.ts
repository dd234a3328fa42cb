import { hex } from "@tutti/foundation/bytes";
import { verifyRound } from "@tutti/round/verify";
import { decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import type { CohortTranscript } from "@tutti/wire/transcript";
import { afterEach, expect, test } from "vitest";
import { NOW_S, TRUST } from "../../../../libs/round/test/cast.ts";
import { openArtifacts } from "../../src/artifacts.ts";
import { plan, temporary } from "./house.ts";
import { World } from "./world.ts";

/** What a coordinator leaves of each round is enough for a third party to check it (attack 18). */

const place = temporary();
afterEach(() => place.remove());

test("every round's transcript and what it names verify, though the coordinator died meanwhile", async () => {
  const server = { name: "momentum", learningRate: 0.5, beta: 0.9 };
  const world = new World(place.folder, plan({ rounds: 2, server }), ["a", "b", "c", "d"]);
  await world.boot();
  // Here it has signed the second round's transcript, and nobody knows.
  await world.live(() => world.life.weather.names.filter((name) => name === "complete").length === 2);
  await world.kill();
  await world.boot();
  expect(await world.live()).toBe(true);

  await verifyAll(world);
  await world.close();
});

/** Checks every round of a run that is over; the cohorts that each transcript tells of, by round. */
async function verifyAll(world: World): Promise<CohortTranscript[][]> {
  const told: CohortTranscript[][] = [];
  const artifacts = openArtifacts(`${place.folder}/artifacts`);
  const releases = await world.life.store.releases(world.run);
  const { history } = world.driver.header;
  expect(history.map(({ round }) => round)).toEqual([...Array(world.plan.rounds + 1).keys()]);
  let previous: Uint8Array | undefined;
  for (const { round, transcript: named } of history) {
    const envelope = releases.find(({ version }) => version === round + 1)?.envelope;
    const manifest = envelope && decode(SignedEnvelopeSchema, envelope, 1 << 20);
    const file = await artifacts.read(named);
    const trust = { authority: TRUST.authority, nowS: NOW_S + 7200 };
    const bare = verifyRound({ ...trust, transcript: file });
    const { cohorts, stateBefore } = bare.transcript;
    const sums = await Promise.all(cohorts.map(({ sumHash }) => artifacts.read(hex(sumHash))));
    const state = stateBefore.length > 0 ? await artifacts.read(hex(stateBefore)) : undefined;
    const parent = await artifacts.read(bare.parent.release.adapter.sha256);
    const given = { ...trust, transcript: file, manifest, sums, parent, state, previous };
    const { unchecked, record } = verifyRound(given);
    expect(unchecked, `round ${round}`).toEqual(manifest ? ["adapter"] : []);
    const { survivors, loss } = history[round]!;
    expect(record).toMatchObject({ survivors, loss });
    previous = file;
    told.push(cohorts);
  }
  return told;
}

test("of several cohorts, one of which is left out since its sum is out of bounds", async () => {
  const many = plan({
    cohort: { min: 3, max: 3, count: 4, combine: "median" },
    update: { clipNorm: 2 },
  });
  const devices = Array.from({ length: 12 }, (_, at) => `d${at + 10}`);
  const world = new World(place.folder, many, devices);
  // Its update: in bounds word by word, beyond the clip norm in a mean over so few rows.
  world.lie = (device, words) =>
    device === "d10" ? words.map((word, at) => (at < words.length - 6 ? 100_000 : word)) : words;
  await world.boot();
  expect(await world.live()).toBe(true);
  const told = await verifyAll(world);
  const [release] = (await world.life.store.releases(world.run)).slice(-1);
  expect(release?.version).toBe(1);
  const shown = told.map((cohorts) => cohorts.map(({ counted, survivors }) => [counted, survivors.length]));
  expect(shown.map((cohorts) => cohorts.length)).toEqual([4, 4]);
  expect(shown[0]!.filter(([counted]) => counted)).toHaveLength(3);
  expect(told[0]!.find(({ counted }) => !counted)!.survivors).toContain("d10");
  await world.close();
});

test("of rounds that ask more devices than they need, and have late updates", async () => {
  const cohort = { min: 3, max: 4, count: 2, target: 7, overInvite: 1.3 };
  const many = plan({ cohort, staleness: { max: 2 }, rounds: 3 });
  const devices = Array.from({ length: 9 }, (_, at) => `d${at + 10}`);
  const world = new World(place.folder, many, devices);
  world.trains = (device) => world.life.clock.sleep(device === "d10" ? 15_000 : 10_000);
  await world.boot();
  expect(await world.live()).toBe(true);
  const told = await verifyAll(world);
  const sizes = told.map((cohorts) => cohorts.map(({ survivors }) => survivors.length).sort());
  expect(sizes).toEqual(Array(4).fill([3, 4]));
  await world.close();
});

test("a round without masks has none", async () => {
  const bare = plan({ secureAggregation: { enabled: false, bits: 24 } });
  const world = new World(place.folder, bare, ["a", "b", "c"]);
  await world.boot();
  expect(await world.live()).toBe(true);
  expect(world.driver.header.history.map(({ transcript }) => transcript)).toEqual(["", ""]);
  await world.close();
});
