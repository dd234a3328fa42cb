import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { seededRandom } from "@tutti/foundation/random";
import { cnn } from "@tutti/graph/make/cnn";
import { mlp } from "@tutti/graph/make/mlp";
import { transformer } from "@tutti/graph/make/transformer";
import { write } from "@tutti/graph/write";

export type Entry = { readonly name: string; readonly bytes: Uint8Array };

const SHARED = fileURLToPath(new URL("../../../../../shared/conformance/", import.meta.url));

/** Larger files are not worth their time: what is to be broken is in the small ones too. */
const LARGEST = 800_000;

/** Models to damage: what our builders make and, where they are at hand, real exports. */
export function models(): readonly Entry[] {
  return [...built(), ...folder("exports"), ...folder("quantised"), ...["bert", "cnn", "mlp"].flatMap(peft)];
}

function built(): readonly Entry[] {
  const random = seededRandom("fuzz");
  const convolutions = [{ channels: 3, pool: 2 }, { channels: 4 }];
  const sizes = { layers: 1, width: 8, heads: 2, vocabulary: 11, length: 6, random };
  return [
    { name: "mlp", bytes: write(mlp({ inputs: 4, hidden: [5], outputs: 3, random })) },
    { name: "cnn", bytes: write(cnn({ image: [1, 8, 8], layers: convolutions, classes: 3, random })) },
    { name: "encoder", bytes: write(transformer({ kind: "encoder", head: { classes: 2 }, ...sizes })) },
    { name: "decoder", bytes: write(transformer({ kind: "decoder", head: "tokens", ...sizes })) },
  ];
}

const peft = (name: string): readonly Entry[] => folder(`peft/${name}`);

function folder(path: string): readonly Entry[] {
  if (!existsSync(SHARED + path)) return [];
  return readdirSync(SHARED + path)
    .filter((name) => name.endsWith(".onnx"))
    .map((name) => ({
      name: `${path}/${name}`,
      bytes: new Uint8Array(readFileSync(`${SHARED}${path}/${name}`)),
    }))
    .filter(({ bytes }) => bytes.length <= LARGEST);
}
