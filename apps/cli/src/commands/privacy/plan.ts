import { Fault } from "@tutti/foundation/fault";
import { MAX_BITS, type Mode } from "@tutti/privacy/grid";
import { corruptible, MAX_MEMBERS, MIN_MEMBERS } from "@tutti/secagg/threshold";
import { MAX_LENGTH } from "@tutti/update/layout";
import { Command, InvalidArgumentError, Option } from "commander";
import { chance, integerIn, positive, withContext } from "../../action.ts";
import { writeAll } from "../../write.ts";
import { type Figures, figuresOf, type Wish } from "./figures.ts";
import { plotLines, plotSvg } from "./plot.ts";

type Options = Omit<Wish, "corrupt"> & {
  readonly corrupt?: number;
  readonly svg?: string;
  readonly force?: boolean;
};

const MODES: readonly Mode[] = ["distributed", "local", "central"];

const EXAMPLES = `
Examples:
  ε of 4 after 50 rounds over 100 devices that each add a share of the noise:
    $ tutti privacy plan --epsilon 4 --rounds 50 --cohort 100
  The same for a small adapter over 1000 devices, with a picture of how ε grows:
    $ tutti privacy plan --epsilon 4 --rounds 50 --cohort 1000 --length 5000 --svg epsilon.svg
  A tenth of a large population in each round, and the coordinator trusted to add the noise:
    $ tutti privacy plan --epsilon 2 --rounds 200 --cohort 500 --sampling 0.1 --mode central

Neighbours differ in one device, whose whole vector is there or is zeros. What is promised holds at the fewest
devices that a secure sum reveals anything of; with more of them ε is smaller.`;

export function planCommand(): Command {
  return new Command("plan")
    .description(
      "Say which noise gives a run its ε, what that noise does to the mean, and how many bits it takes.",
    )
    .requiredOption("--epsilon <number>", "what a device gives away at most over the run", positive)
    .option("--delta <number>", "the chance that it is more, far below one in the population", chance, 1e-5)
    .requiredOption(
      "--rounds <number>",
      "sums of the run: a run file's rounds and one more, which evaluates",
      integerIn(1, 1_000_000),
    )
    .requiredOption("--cohort <number>", "devices in a sum", integerIn(MIN_MEMBERS, MAX_MEMBERS))
    .option(
      "--corrupt <number>",
      "of these, how many may work with the coordinator (default: just below a third)",
      integerIn(0, MAX_MEMBERS),
    )
    .option("--bits <number>", "bits of a word on the wire", integerIn(4, MAX_BITS), 16)
    .option("--length <number>", "coordinates of an update", integerIn(1, MAX_LENGTH), 100_000)
    .option("--clip <number>", "L2 norm that updates are clipped to", positive, 1)
    .option("--sampling <number>", "chance of a device to be in a round; 1 counts on no sampling", share, 1)
    .addOption(new Option("--mode <name>", "who adds the noise").choices(MODES).default("distributed"))
    .option("--svg <file>", "write the curve of ε over rounds there")
    .option("--force", "let --svg replace a file")
    .addHelpText("after", EXAMPLES)
    .action((options: Options, command: Command) =>
      withContext(command, async ({ output }) => {
        const wish = wishOf(options);
        const figures = figuresOf(wish);
        const sentence = sentenceOf(wish, figures);
        if (options.svg !== undefined)
          await writeAll([[options.svg, plotSvg(figures.curve, sentence)]], { force: options.force });
        for (const line of linesOf(wish, figures)) output.say(line);
        output.result({ asked: wish, ...figures }, sentence);
      }),
    );
}

function wishOf({ svg: _, force: __, corrupt, ...wish }: Options): Wish {
  const able = corrupt ?? corruptible(wish.cohort);
  // With two of the coordinator's in three, its own devices could be the quorum.
  if (able > wish.cohort - 2) {
    const expected = `at most ${wish.cohort - 2} of ${wish.cohort}`;
    throw new Fault("bad-input", "--corrupt", { expected, got: `${able}` });
  }
  return { ...wish, corrupt: able };
}

function sentenceOf({ delta, rounds, mode }: Wish, { noiseMultiplier, epsilon }: Figures): string {
  const noise = `noise multiplier ${shown(noiseMultiplier)}, ${mode}`;
  return `${noise}: ε ${shown(epsilon)} at δ ${delta} after ${rounds} rounds`;
}

function linesOf(wish: Wish, figures: Figures): readonly string[] {
  const { cohort, clip, sampling, bits } = wish;
  const { error, ledger } = figures;
  const long = error.wholeVectorPerClip;
  return [
    ...noiseLines(wish, figures),
    `if all ${cohort} stay: ε ${shown(figures.epsilonIfAllStay)}`,
    `a coordinate of the mean is off by ${shown(error.rms)} (RMS), ${shown(error.perClip)} of clip ${clip}`,
    `over all coordinates the noise is ${shown(long)} times as long as the longest update` +
      (long > 1 ? ": more devices, fewer coordinates or a larger ε would help" : ""),
    `upload: ${figures.words} words of ${bits} bits, ${figures.uploadBytes} bytes in a round`,
    bitsLine(figures),
    ...roundingLines(wish, figures),
    ...(sampling < 1
      ? [
          `a device cannot check sampling: its ledger counts about ${ledger.rounds} rounds whole, ` +
            `ε ${shown(ledger.epsilon)}, which its policy has to allow`,
        ]
      : []),
    "",
    ...plotLines(figures.curve),
    "",
  ];
}

/** Who adds how much, and what the promise rests on. */
function noiseLines({ mode, cohort, corrupt }: Wish, figures: Figures): readonly string[] {
  const { honest, survivors } = figures;
  const [local, central] = [shown(figures.localSigma), shown(figures.centralSigma)];
  switch (mode) {
    case "distributed":
      return [
        `each device adds its share of the noise: σ ${local} in each coordinate`,
        `counted on: ${honest} honest devices; a sum is of ${survivors} or more, ${corrupt} of them corrupt`,
      ];
    case "local":
      return [`each device adds all the noise, σ ${local} in each coordinate, and counts on nobody`];
    case "central":
      return [
        `the coordinator adds σ ${central} in each coordinate to the sum of ${cohort}, and is trusted to`,
      ];
  }
}

function bitsLine({ bits: { free, onePercent } }: Figures): string {
  const said = (bits: number | null) => (bits === null ? `more than ${MAX_BITS}` : `${bits}`);
  return `bits that cost nothing of ε (below 0.1 %): ${said(free)}; at most 1 %: ${said(onePercent)}`;
}

/** What rounding to so few bits costs in noise, where that is a part in a thousand or more. */
function roundingLines({ bits }: Wish, { noiseMultiplier, withoutRounding }: Figures): readonly string[] {
  const more = noiseMultiplier / withoutRounding - 1;
  if (more < 0.001) return [];
  return [
    `${bits} bits: ${(100 * more).toPrecision(2)} % of the noise is for what rounding may add to an update`,
  ];
}

function shown(value: number): string {
  return value.toPrecision(4);
}

function share(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 1) return value;
  throw new InvalidArgumentError("Expected a number above 0, at most 1.");
}
