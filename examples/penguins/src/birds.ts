import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { seededRandom } from "@tutti/foundation/random";

/** One bird of the Palmer archipelago: four measurements, its species, and the island it was measured on. */
export type Bird = {
  readonly features: readonly number[];
  readonly species: Species;
  readonly island: Island;
};

export const SPECIES = ["Adelie", "Chinstrap", "Gentoo"] as const;
export const ISLANDS = ["Biscoe", "Dream", "Torgersen"] as const;
export type Species = (typeof SPECIES)[number];
export type Island = (typeof ISLANDS)[number];

/** Columns of the source file, millimetres and grams. */
const MEASURES = ["Beak Length (mm)", "Beak Depth (mm)", "Flipper Length (mm)", "Body Mass (g)"] as const;
/** The same as the sites' notebooks and the run file call them. */
export const COLUMNS = ["beak_length_mm", "beak_depth_mm", "flipper_length_mm", "body_mass_g"] as const;

/** Public birds, what the base model is made from: all of the one species that every island has. */
const PUBLIC: Readonly<Record<Species, number>> = { Adelie: 12, Chinstrap: 0, Gentoo: 0 };
/** Share of the other birds that nobody trains on: the table at the end is measured on them. */
const TEST_SHARE = 0.25;

export type Flock = {
  readonly open: readonly Bird[];
  readonly test: readonly Bird[];
  readonly sites: Readonly<Record<Island, readonly Bird[]>>;
};

/** Every bird with all four measurements (342 of 344), from the registry package vega-datasets. */
export async function readBirds(): Promise<Bird[]> {
  // The package's export map hides its data folder, so the folder is found beside its entry point.
  const entry = createRequire(import.meta.url).resolve("vega-datasets");
  const path = join(entry.slice(0, entry.lastIndexOf("vega-datasets")), "vega-datasets/data/penguins.json");
  const rows = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>[];
  return rows.flatMap((row) => {
    const features = MEASURES.map((measure) => row[measure]).filter((value) => typeof value === "number");
    if (features.length < MEASURES.length) return [];
    return [{ features, species: row.Species as Species, island: row.Island as Island }];
  });
}

/** Public birds and test birds drawn by the seed, per species; every other bird stays on its island. */
export function split(birds: readonly Bird[], seed: number): Flock {
  const parts = SPECIES.map((species) => {
    const mine = seededRandom(`${seed}/${species}`).shuffle(birds.filter((bird) => bird.species === species));
    const rest = mine.slice(PUBLIC[species]);
    const tests = Math.round(rest.length * TEST_SHARE);
    return { open: mine.slice(0, PUBLIC[species]), test: rest.slice(0, tests), kept: rest.slice(tests) };
  });
  const kept = parts.flatMap((part) => part.kept);
  const at = (island: Island) => kept.filter((bird) => bird.island === island);
  return {
    open: parts.flatMap((part) => part.open),
    test: parts.flatMap((part) => part.test),
    sites: { Biscoe: at("Biscoe"), Dream: at("Dream"), Torgersen: at("Torgersen") },
  };
}

/** A site's notebook as CSV: what lies in its data folder. */
export function notebook(birds: readonly Bird[]): string {
  const lines = birds.map(({ features, species }) => [...features, species].join(","));
  return `${[...COLUMNS, "species"].join(",")}\n${lines.join("\n")}\n`;
}
