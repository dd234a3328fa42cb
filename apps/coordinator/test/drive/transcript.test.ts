import { hex } from "@tutti/foundation/bytes";
import { verifyRound } from "@tutti/round/verify";
import { decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
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

  const artifacts = openArtifacts(`${place.folder}/artifacts`);
  const releases = await world.life.store.releases(world.run);
  const { history } = world.driver.header;
  expect(history.map(({ round }) => round)).toEqual([0, 1, 2]);
  let previous: Uint8Array | undefined;
  for (const { round, transcript: named } of history) {
    const envelope = releases.find(({ version }) => version === round + 1)?.envelope;
    const manifest = envelope && decode(SignedEnvelopeSchema, envelope, 1 << 20);
    const file = await artifacts.read(named);
    const trust = { authority: TRUST.authority, nowS: NOW_S + 7200 };
    const bare = verifyRound({ ...trust, file });
    const { cohorts, stateBefore } = bare.transcript;
    const sums = await Promise.all(cohorts.map(({ sumHash }) => artifacts.read(hex(sumHash))));
    const state = stateBefore.length > 0 ? await artifacts.read(hex(stateBefore)) : undefined;
    const parent = await artifacts.read(bare.parent.release.adapter.sha256);
    const given = { ...trust, file, manifest, sums, parent, state, previous };
    const { unchecked, record } = verifyRound(given);
    expect(unchecked, `round ${round}`).toEqual(manifest ? ["adapter"] : []);
    expect(record).toMatchObject({ survivors: 4, loss: history[round]!.loss });
    previous = file;
  }
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
