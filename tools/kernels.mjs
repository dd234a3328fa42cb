// Compiles libs/kernels/assembly to WebAssembly and writes it as base64 to libs/kernels/src/gen/kernels.ts, the same
// bytes every time (decision 0018). Run with `npm run kernels`.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ROOM = fileURLToPath(new URL("../libs/kernels/", import.meta.url));
/** Of 64 KiB: room for memory.ts's END. Fixed, so the buffer never moves. */
const MEMORY_PAGES = "3";
/** Older browsers compile no more than this at once on a page's main thread. */
const MAX_BYTES = 4096;

const options = ["--outFile", "kernels.wasm", "-O3", "--converge", "--noAssert", "--enable", "simd"];
const noRuntime = ["--runtime", "stub", "--use", "abort="];
const memory = ["--initialMemory", MEMORY_PAGES, "--maximumMemory", MEMORY_PAGES];

let binary;
const { error, stderr } = await asc.main(
  ["index.ts", "--baseDir", `${ROOM}assembly`, ...options, ...noRuntime, ...memory],
  {
    writeFile: (_name, contents) => {
      binary = contents;
    },
  },
);
if (error) throw new Error(`${error.message}\n${stderr.toString()}`);
if (binary.length > MAX_BYTES) throw new Error(`expected at most ${MAX_BYTES} bytes, got ${binary.length}`);

const lines = Buffer.from(binary)
  .toString("base64")
  .match(/.{1,100}/g);
mkdirSync(`${ROOM}src/gen`, { recursive: true });
writeFileSync(
  `${ROOM}src/gen/kernels.ts`,
  `// Made by \`npm run kernels\` from libs/kernels/assembly. Do not edit.
/** WebAssembly with SIMD, ${binary.length} bytes, in base64. */
export const KERNELS =
${lines.map((line) => `  "${line}"`).join(" +\n")};
`,
);
process.stdout.write(`${binary.length} bytes\n`);
