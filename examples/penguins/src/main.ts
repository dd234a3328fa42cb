import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { nodeEngine } from "@tutti/client-sdk/node/engine";
import { Fault } from "@tutti/foundation/fault";
import { reportFailure } from "tutti/output";
import { prepareRun } from "tutti/prepare";
import { makeBase } from "./base.ts";
import { readBirds, split } from "./birds.ts";
import { federate } from "./federation.ts";
import { Processes, TUTTI } from "./processes.ts";
import { measure, tableOf } from "./results.ts";
import { Screen } from "./screen.ts";

const RUN_FILE = fileURLToPath(new URL("../run.yaml", import.meta.url));
const USAGE = `usage: npm start -- [--seed N] [--out folder] [--program file] [--json]
  --seed N   draws the split, the base model, the first adapter and the batches (default 1)
  --out      where everything is written, made anew each time (default out/penguins)
  --program  the \`tutti\` that all run: dist/tutti.mjs after npm run build (default: the sources)
  --json     print the result as one JSON object on the last line`;

type Options = { seed: number; folder: string; program: string; json: boolean };

/** parseArgs, whose own errors are about the command line and nothing else. */
const parsed: typeof parseArgs = (config) => {
  try {
    return parseArgs(config);
  } catch (cause) {
    throw new Fault("bad-input", "command line", {
      got: (cause as Error).message,
      todo: `\n${USAGE}`,
      cause,
    });
  }
};

function readOptions(): Options | null {
  const { values } = parsed({
    options: {
      seed: { type: "string", default: "1" },
      out: { type: "string", default: "out/penguins" },
      program: { type: "string", default: TUTTI },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const seed = Number(values.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31) {
    throw new Fault("bad-input", "--seed", { expected: "a natural number below 2^31", got: values.seed });
  }
  const program = resolve(values.program);
  if (!existsSync(program))
    throw new Fault("bad-input", "--program", {
      expected: "a file",
      got: program,
      todo: "npm run build makes it",
    });
  return { seed, folder: resolve(values.out), program, json: values.json };
}

async function main({ seed, folder, program, json }: Options, signal: AbortSignal): Promise<void> {
  const startedMs = performance.now();
  const screen = new Screen(json ? process.stderr : process.stdout);
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, "logs"), { recursive: true });
  const processes = new Processes(program, { logs: join(folder, "logs"), signal });
  try {
    const engine = await nodeEngine("tfjs");
    const flock = split(await readBirds(), seed);
    const base = await makeBase(flock.open, { engine, seed });
    await writeFile(join(folder, "base.onnx"), base);
    screen.say(
      `base model: ${base.length} bytes of ONNX from ${flock.open.length} public birds, by ${engine.name}`,
    );
    const prepared = await prepareRun(RUN_FILE, { base: join(folder, "base.onnx"), seed });
    const federated = await federate(prepared, { folder, flock, processes, screen, signal });
    await processes.stop();
    screen.say("now the same recipe without a federation: each site alone, then all birds in one place");
    const result = await measure({ prepared, flock, federated, engine, startedMs });
    screen.say(tableOf(result, flock));
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  } finally {
    await processes.stop();
  }
}

/** Ctrl-C aborts what runs, which ends every process that was started; a second one leaves at once. */
function abortOnSignals(): AbortSignal {
  const abort = new AbortController();
  const stop = () => (abort.signal.aborted ? process.exit(130) : abort.abort());
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return abort.signal;
}

const signal = abortOnSignals();
try {
  const options = readOptions();
  if (options) await main(options, signal);
  else console.log(USAGE);
  process.exit(0);
} catch (error) {
  // Whatever broke because of Ctrl-C, Ctrl-C is what happened.
  const told = signal.aborted ? new Fault("cancelled", "stopped, and everything it started") : error;
  process.exit(reportFailure(told, process.argv.includes("--json")));
}
