import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";
import type * as tfjs from "@tensorflow/tfjs-core";
import type { Graph, Tensors } from "@tutti/graph/ir";
import type { Contender } from "../../apps/cli/src/bench/graph.ts";
import { bundle } from "./bundle.ts";
import { ADAPTER, BATCH, LENGTH, SIZES } from "./graph-model.ts";

const CHECKOUT = fileURLToPath(new URL("../..", import.meta.url));

type Tf = typeof tfjs;
type T = tfjs.Tensor;
type Weights = (name: string) => T;

/**
 * tfjs-core alone knows no gradient. Its file that registers them all is written for bundlers and does not
 * load in Node, so it is bundled; whichever copy of tfjs-core it brings, the registry is one per process.
 */
export async function registerGradients(): Promise<void> {
  const source = 'import "@tensorflow/tfjs-core/dist/register_all_gradients.js"; export const done = true;';
  const { code } = await bundle(source, { root: CHECKOUT, name: "gradients" });
  runInThisContext(code);
}

/**
 * The step of claims/graph/speed as one would write it in tfjs by hand: the same model and adapter in tfjs's
 * own operators, gradients by `variableGrads`. Every gradient of it exists on wasm. Its loss and gradients
 * are those of our graph (the claim compares them).
 */
export function byHand(
  tf: Tf,
  model: Graph,
  feeds: Tensors,
): Contender & { readonly values: () => Promise<Values> } {
  const frozen = new Map<string, T>();
  const trained = new Map<string, tfjs.Variable>();
  for (const [name, { data, shape }] of feeds) {
    if (!name.includes(".")) continue;
    trained.set(name, tf.variable(tf.tensor(data as Float32Array, [...shape]), true, name));
  }
  for (const [name, { data, shape }] of model.initializers)
    if (/\.(weight|bias)$/.test(name) && !trained.has(name))
      frozen.set(name, tf.keep(tf.tensor(data as Float32Array, [...shape])));
  const weights: Weights = (name) => trained.get(name) ?? frozen.get(name)!;
  const inputs = {
    ids: tf.keep(
      tf.tensor(
        Int32Array.from(feeds.get("input_ids")!.data as BigInt64Array, Number),
        [BATCH, LENGTH],
        "int32",
      ),
    ),
    mask: tf.keep(
      tf.tensor(Float32Array.from(feeds.get("attention_mask")!.data as BigInt64Array, Number), [
        BATCH,
        1,
        1,
        LENGTH,
      ]),
    ),
    labels: tf.keep(
      tf.oneHot(tf.tensor1d(Int32Array.from(feeds.get("label")!.data as BigInt64Array, Number), "int32"), 2),
    ),
  };
  const step = () => tf.variableGrads(() => loss(tf, weights, inputs) as tfjs.Scalar, [...trained.values()]);
  return {
    // Read back as an engine's step does: without it wasm has computed all the same, being synchronous.
    run: async () => {
      const { value, grads } = step();
      await Promise.all([value, ...Object.values(grads)].map((tensor) => tensor.data()));
      tf.dispose([value, grads]);
    },
    values: async () => {
      const { value, grads } = step();
      const read = async (tensor: T) => (await tensor.data()) as Float32Array;
      const all = Object.entries(grads).map(async ([name, tensor]) => [name, await read(tensor)] as const);
      const values = { loss: (await read(value))[0]!, gradients: new Map(await Promise.all(all)) };
      tf.dispose([value, grads]);
      return values;
    },
    dispose: async () => {
      tf.dispose([[...trained.values()], [...frozen.values()], Object.values(inputs)]);
    },
  };
}

type Values = { readonly loss: number; readonly gradients: ReadonlyMap<string, Float32Array> };

type Inputs = { readonly ids: T; readonly mask: T; readonly labels: T };

function loss(tf: Tf, w: Weights, { ids, mask, labels }: Inputs): T {
  const words = tf.gather(w("embeddings.word.weight") as tfjs.Tensor2D, ids as tfjs.Tensor2D);
  const places = tf.slice(w("embeddings.position.weight"), [0, 0], [LENGTH, SIZES.width]);
  let x = normalised(tf, w, "embeddings.norm", tf.add(words, places));
  const bias = tf.mul(tf.sub(1, mask), -3.4e38);
  for (let layer = 0; layer < SIZES.layers; layer++)
    x = block(tf, w, { x, bias, at: `encoder.layer.${layer}` });
  const first = tf.reshape(tf.slice(x, [0, 0, 0], [BATCH, 1, SIZES.width]), [BATCH, SIZES.width]);
  const pooled = tf.tanh(tf.add(tf.matMul(first, w("pooler.weight"), false, true), w("pooler.bias")));
  const logits = tf.add(tf.matMul(pooled, w("classifier.weight"), false, true), w("classifier.bias"));
  return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), labels), 1)));
}

type Block = { readonly x: T; readonly bias: T; readonly at: string };

function block(tf: Tf, w: Weights, { x, bias, at }: Block): T {
  const { width, heads } = SIZES;
  const head = width / heads;
  const split = (y: T) => tf.transpose(tf.reshape(y, [BATCH, LENGTH, heads, head]), [0, 2, 1, 3]);
  const of = (name: string) => split(linear(tf, w, `${at}.attention.${name}`, x));
  const query = tf.mul(of("query"), 1 / Math.sqrt(head));
  const shares = tf.softmax(tf.add(tf.matMul(query, of("key"), false, true), bias));
  const mixed = tf.transpose(tf.matMul(shares, of("value")), [0, 2, 1, 3]);
  const attended = linear(tf, w, `${at}.attention.output`, tf.reshape(mixed, [BATCH, LENGTH, width]));
  const middle = normalised(tf, w, `${at}.attention.norm`, tf.add(attended, x));
  const wide = linear(tf, w, `${at}.intermediate`, middle);
  const bent = tf.mul(tf.mul(wide, 0.5), tf.add(tf.erf(tf.mul(wide, Math.SQRT1_2)), 1));
  return normalised(tf, w, `${at}.norm`, tf.add(linear(tf, w, `${at}.output`, bent), middle));
}

/** Rows by W [in, out], and beside it s·(x·Aᵀ)·Bᵀ where there is an adapter. */
function linear(tf: Tf, w: Weights, module: string, x: T): T {
  const rows = tf.reshape(x, [BATCH * LENGTH, -1]);
  const y = tf.add(tf.matMul(rows, w(`${module}.weight`)), w(`${module}.bias`));
  const adapted = ADAPTER.targets.some((target) => module.endsWith(target));
  const whole = adapted ? tf.add(y, side(tf, w, module, rows)) : y;
  return tf.reshape(whole, [BATCH, LENGTH, -1]);
}

function side(tf: Tf, w: Weights, module: string, rows: T): T {
  const narrow = tf.matMul(rows, w(`${module}.lora_A.weight`), false, true);
  const wide = tf.matMul(narrow, w(`${module}.lora_B.weight`), false, true);
  return tf.mul(wide, ADAPTER.alpha / ADAPTER.rank);
}

function normalised(tf: Tf, w: Weights, module: string, x: T): T {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const deviation = tf.sqrt(tf.add(tf.mean(tf.square(centred), -1, true), 1e-5));
  return tf.add(tf.mul(tf.div(centred, deviation), w(`${module}.weight`)), w(`${module}.bias`));
}
