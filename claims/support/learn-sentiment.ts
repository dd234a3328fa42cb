import { readFile } from "node:fs/promises";
import { examplesFromArrays, type Split, splitExamples } from "@tutti/client-sdk/examples";
import { seededRandom } from "@tutti/foundation/random";
import type { Examples } from "@tutti/train/batches";

/** Three sites, 1,000 labelled sentences each (Kotzias et al. 2015). */
export const SITES = ["amazon", "imdb", "yelp"] as const;
export type SiteName = (typeof SITES)[number];

const FILES: Readonly<Record<SiteName, string>> = {
  amazon: "amazon_cells_labelled.txt",
  imdb: "imdb_labelled.txt",
  yelp: "yelp_labelled.txt",
};
const SHARED = new URL("../../../shared/", import.meta.url);
const TEST_SHARE = 0.2;
/** The model's sequence length and its special tokens, from ../shared/README.md. */
const [LENGTH, PAD, UNKNOWN, START] = [40, 0, 1, 2] as const;

export type Sentiment = { readonly base: Uint8Array; readonly sites: Readonly<Record<SiteName, Examples>> };

/** The base model and each site's sentences as its inputs; null where the data is not there. */
export async function readSentiment(): Promise<Sentiment | null> {
  try {
    const base = new Uint8Array(await readFile(new URL("models/sentiment_bert_amazon.onnx", SHARED)));
    const vocabulary = await readFile(new URL("models/sentiment_vocab.json", SHARED), "utf8");
    const words = new Map((JSON.parse(vocabulary) as string[]).map((word, at) => [word, at]));
    const read = async (site: SiteName) =>
      examplesOf(await readFile(new URL(`data/sentiment/${FILES[site]}`, SHARED), "utf8"), words);
    const sites = { amazon: await read("amazon"), imdb: await read("imdb"), yelp: await read("yelp") };
    return { base, sites };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** A site's 80/20 split, drawn by the seed: the same for its device and for central training. */
export function splitOf(examples: Examples, site: SiteName, seed: number): Split {
  return splitExamples(examples, TEST_SHARE, seededRandom(`${seed}/${site}/split`));
}

/** Lines `sentence TAB 0|1`. Sentences hold U+0085, which is no line end here. */
function examplesOf(text: string, words: ReadonlyMap<string, number>): Examples {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const rows = lines.map((line) => {
    const tab = line.lastIndexOf("\t");
    return { ids: tokenise(line.slice(0, tab), words), label: BigInt(line.slice(tab + 1).trim()) };
  });
  const shape = [rows.length, LENGTH];
  const padded = rows.flatMap(({ ids }) => [...ids, ...Array<number>(LENGTH - ids.length).fill(PAD)]);
  const mask = rows.flatMap(({ ids }) =>
    Array.from({ length: LENGTH }, (_, at) => (at < ids.length ? 1 : 0)),
  );
  const int64 = (values: readonly number[]) => BigInt64Array.from(values, BigInt);
  return examplesFromArrays({
    inputs: {
      input_ids: { dtype: "int64", shape, data: int64(padded) },
      attention_mask: { dtype: "int64", shape, data: int64(mask) },
    },
    label: { dtype: "int64", shape: [rows.length], data: BigInt64Array.from(rows, ({ label }) => label) },
  });
}

/** Lower case, words and the marks that carry feeling, cut to the model's length. */
function tokenise(sentence: string, words: ReadonlyMap<string, number>): readonly number[] {
  const found = sentence.toLowerCase().match(/[a-z0-9']+|[!?.]/g) ?? [];
  return [START, ...found.map((word) => words.get(word) ?? UNKNOWN)].slice(0, LENGTH);
}
