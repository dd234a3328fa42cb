import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readSafetensors } from "@tutti/adapter/formats/safetensors";
import { utf8 } from "@tutti/foundation/bytes";
import { unpackBits } from "@tutti/kernels/pack";
import { planBytes } from "@tutti/plan/plan";
import type { PreparedRun } from "tutti/prepare";
import type { Claim } from "../claim.ts";
import { readTruth, uploadFile } from "../support/round/files.ts";
import type { House } from "../support/round/house.ts";
import { type Rows, smallRun } from "../support/round/recipe.ts";
import { expectedByChance, type Needle, search } from "../support/round/search.ts";
import { binary, digits, secretsOf, VECTORS, windowsOf } from "../support/round/secrets.ts";
import { type Tap, tap } from "../support/round/tap.ts";
import type { Truth } from "../support/round/truth.ts";
import { takeTurns } from "../support/round/turns.ts";
import { withHouse } from "../support/round/workplace.ts";

/** Counts of five digits, each with nothing in common with another, nor with the plan. */
const SITES: ReadonlyMap<string, Rows> = new Map([
  ["harbour", { train: 17_393, heldOut: 10_139 }],
  ["orchard", { train: 18_719, heldOut: 11_743 }],
  ["quarry", { train: 19_937, heldOut: 12_917 }],
]);
const BITS = 24;
/** More hits than this would be chance even if nothing leaked; below it, none is expected. */
const CHANCE = 0.05;

/** What a coordinator held, received and sent in a run, searched for what each site keeps to itself. */
type Looked = {
  readonly bytes: number;
  readonly needles: number;
  readonly chance: number;
  /** Needles found, by what they are; then the sites they belong to. */
  readonly hits: Readonly<Record<string, number>>;
  readonly sites: readonly string[];
  /** Words of the vectors as they left that equal the true word at their place. */
  readonly wordsInTheClear: string;
  /** Of what is meant to be seen: the released adapter, the cohort's sums, the names. */
  readonly seen: readonly string[];
};

export const claim: Claim = {
  name: "round/blind",
  target:
    "nothing of one site's update, counts or losses is anywhere in the coordinator; without masks it is",
  async run(report) {
    const secure = await look(true);
    report(`secure aggregation on: ${JSON.stringify(secure)}`);
    const plain = await look(false);
    report(`secure aggregation off: ${JSON.stringify(plain)}`);
    const hits = (of: Looked) => Object.values(of.hits).reduce((sum, count) => sum + count, 0);
    const foundInPlain = [VECTORS.words, VECTORS.packed, VECTORS.tail].every((what) => plain.hits[what]);
    const figures = {
      bytesSearched: secure.bytes,
      valuesSearchedFor: secure.needles,
      expectedByChance: Number(secure.chance.toExponential(1)),
      found: hits(secure),
      foundWithoutMasks: plain.hits,
      sitesFoundWithoutMasks: plain.sites.length,
      wordsInTheClear: { secure: secure.wordsInTheClear, plain: plain.wordsInTheClear },
      seenByDesign: secure.seen,
    };
    const works = foundInPlain && plain.sites.length === SITES.size;
    const seesSums = [secure, plain].every(({ seen }) => seen.length === SEEN);
    return { figures, holds: hits(secure) === 0 && secure.chance < CHANCE && works && seesSums };
  },
};

async function look(enabled: boolean): Promise<Looked> {
  let wire: Tap | null = null;
  const through = async (federation: string, port: number) => {
    wire = await tap(federation, port);
    return wire.address;
  };
  return await withHouse({ sites: SITES, inTurn: true, plain: !enabled, through }, async (house) => {
    takeTurns(house);
    const prepared = smallRun({
      name: "blind",
      seed: 5,
      train: { optimiser: { name: "sgd", learningRate: 0.05, momentum: 0 }, steps: 40, batchSize: 512 },
      cohort: { min: SITES.size, max: SITES.size },
      secureAggregation: { enabled, bits: BITS },
      update: { clipNorm: 10, clip: 0.5, maxWeight: 32_768 },
    });
    const run = await house.begin(prepared);
    const { state, reason } = await house.over(run);
    if (state !== "finished") throw new Error(`the run ended as ${state}: ${reason}`);
    const [, trained] = await house.releases(run);
    await house.close();
    wire?.close();
    const haystacks = [...(await filesOf(house)), ...(wire?.bytes() ?? [])];
    const truths = new Map<string, Truth>();
    for (const site of SITES.keys()) truths.set(site, await readTruth(house.siteFolder(site), run));
    const secrets = notPublic(
      prepared,
      [...truths].flatMap(([site, truth]) => secretsOf(site, truth, BITS)),
    );
    const found = search(secrets, haystacks);
    return {
      bytes: haystacks.reduce((sum, { length }) => sum + length, 0),
      needles: secrets.length,
      chance: expectedByChance(secrets, haystacks),
      hits: countBy(found.map(({ what }) => what)),
      sites: [...new Set(found.map(({ site }) => site))],
      wordsInTheClear: await inTheClear(house, truths),
      seen: search(openly(prepared, trained?.adapter), haystacks).map(({ what }) => what),
    };
  });
}

/** The coordinator's whole folder, its output, and every change it ever wrote. */
async function filesOf(house: House): Promise<Uint8Array[]> {
  const folder = join(house.federation, "coordinator");
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const all = [...files, join(house.logs, "coordinator.log"), house.writes];
  return await Promise.all(all.map(async (file) => new Uint8Array(await readFile(file))));
}

/** What stands in files that everybody has is no site's secret, wherever it is found. */
function notPublic({ plan, base, initial }: PreparedRun, secrets: readonly Needle[]): Needle[] {
  const known = new Set(search(secrets, [planBytes(plan), base, initial]));
  return secrets.filter((needle) => !known.has(needle));
}

/** Values that the coordinator does have, so that each way of searching is seen to find something. */
function openly({ plan }: PreparedRun, adapter: Uint8Array | undefined): Needle[] {
  const tensors = adapter ? [...readSafetensors(adapter).values()] : [];
  const largest = tensors
    .map(({ data }) => [...(data as Float32Array)])
    .sort((a, b) => b.length - a.length)[0];
  const rows = [...SITES.values()].reduce((sum, { heldOut }) => sum + heldOut, 0);
  const all = [
    ...windowsOf("all", "released adapter as float32", largest ?? []).slice(0, 1),
    ...binary("rows held out, of all sites", rows).slice(0, 1),
    digits("size of the first adapter", `${plan.initial.bytes}`),
    ...[...SITES.keys()].map((site) => ({ what: `name ${site}`, bytes: utf8(site) })),
  ];
  return all.map((needle) => ({ site: "all", ...needle }));
}

const SEEN = 3 + SITES.size;

/** Of each site's vector of training, as it left: words that are the true ones. */
async function inTheClear(house: House, truths: ReadonlyMap<string, Truth>): Promise<string> {
  let same = 0;
  let all = 0;
  for (const [site, { words }] of truths) {
    const packed = new Uint8Array(await readFile(uploadFile(house.siteFolder(site), 0)));
    const sent = unpackBits(packed, BITS, words.length);
    same += words.filter((word, at) => word === sent[at]).length;
    all += words.length;
  }
  return `${same} of ${all}`;
}

function countBy(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
