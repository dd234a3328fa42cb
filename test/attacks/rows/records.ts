import { asFault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { type Given, verifyRound } from "@tutti/round/verify";
import {
  adapterOf,
  manifestOf,
  type PlayedRound,
  playRound,
  retold,
} from "../../../libs/round/test/verify/played.ts";
import { type Outcome, patch, refused, type Scenario, without, worked } from "../scenario.ts";

const REPLAY = "libs/round/src/verify/replay.ts";
const VERIFY = "libs/round/src/verify.ts";
const COHORT = "libs/round/src/verify/cohort.ts";

/** What a lying coordinator publishes of an honest round, and what a third party makes of it. */
function published(lie: (round: PlayedRound) => Given): () => Promise<Outcome> {
  return async () => {
    const given = lie(await playRound({}));
    try {
      const { checks } = verifyRound(given);
      return worked(`a third party finds all ${checks.length} checks in order`);
    } catch (error) {
      return refused(asFault(error));
    }
  };
}

/** An adapter of the coordinator's own making, under a manifest that names it. */
function otherAdapter({ spec, release, given }: PlayedRound): Given {
  const adapter = adapterOf(spec.plan, "of the coordinator's making");
  const named = { sha256: sha256Hex(adapter), bytes: adapter.length };
  return { ...given, adapter, manifest: manifestOf(release, { adapter: named }) };
}

/** Another sum than the one whose hash was signed, by one word; the parent's adapter is not at hand. */
function otherSum({ spec, transcript, given }: PlayedRound): Given {
  const { bits } = spec.plan.secureAggregation;
  const words = unpackBits(given.sums![0]!, bits, transcript.cohorts[0]!.terms!.length);
  words[0] = words[0]! ^ 1;
  return { ...given, parent: undefined, sums: [packBits(words, bits)] };
}

/** The one that vanished is said to be in the sum. */
function moreSurvivors(round: PlayedRound): Given {
  const told = retold(round, ({ cohorts: [cohort] }) => {
    cohort!.survivors = [...cohort!.senders];
  });
  const cohorts = [round.transcript.cohorts[0]!.senders.length];
  const manifest = manifestOf(round.release, { transcript: sha256Hex(told.transcript), cohorts });
  return { ...told, manifest, parent: undefined, sums: undefined };
}

export const RECORDS: readonly Scenario[] = [
  {
    row: 18,
    name: "an adapter that is not the step of the sum",
    harness: "unit",
    mutations: [
      without(
        "the step is taken again",
        patch(
          REPLAY,
          'if (release) checkArtifact(adapter, release.adapter, "adapter by the step taken again");',
          "",
        ),
      ),
    ],
    run: published(otherAdapter),
  },
  {
    row: 18,
    name: "another sum than the record's",
    harness: "unit",
    mutations: [
      without(
        "a sum is found by the hash in the signed record, and no other is taken",
        patch(
          VERIFY,
          "const file = byHash.get(hex(cohort.sumHash));",
          "const file = [...byHash.values()][0];",
        ),
        patch(VERIFY, 'must("sums", stray === undefined,', 'must("sums", true,'),
      ),
    ],
    run: published(otherSum),
  },
  {
    row: 18,
    name: "a device in the record that was not in the sum",
    harness: "unit",
    mutations: [
      without(
        "survivors signed exactly these sets",
        patch(COHORT, "verify(group.parties.get(device)!.publicKey, statement, signature)", "true"),
      ),
    ],
    run: published(moreSurvivors),
  },
];
