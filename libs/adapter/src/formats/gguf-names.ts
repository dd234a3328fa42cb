import { Fault } from "@tutti/foundation/fault";

/**
 * llama.cpp's names of weights beside Hugging Face's, per architecture (llama.cpp, gguf-py,
 * tensor_mapping.py). `N` stands for the number of a layer.
 */

export const ARCHITECTURES = ["llama", "qwen2", "gemma", "gpt2", "bert"] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

const DECODER = {
  "model.embed_tokens": "token_embd",
  "model.layers.N.self_attn.q_proj": "blk.N.attn_q",
  "model.layers.N.self_attn.k_proj": "blk.N.attn_k",
  "model.layers.N.self_attn.v_proj": "blk.N.attn_v",
  "model.layers.N.self_attn.o_proj": "blk.N.attn_output",
  "model.layers.N.mlp.gate_proj": "blk.N.ffn_gate",
  "model.layers.N.mlp.up_proj": "blk.N.ffn_up",
  "model.layers.N.mlp.down_proj": "blk.N.ffn_down",
} as const;

const TABLES: Readonly<Record<Architecture, Readonly<Record<string, string>>>> = {
  llama: { ...DECODER, lm_head: "output" },
  qwen2: { ...DECODER, lm_head: "output" },
  // Its head is the embedding table; a GGUF base has no tensor of its own for it.
  gemma: DECODER,
  gpt2: {
    "transformer.wte": "token_embd",
    "transformer.h.N.attn.c_attn": "blk.N.attn_qkv",
    "transformer.h.N.attn.c_proj": "blk.N.attn_output",
    "transformer.h.N.mlp.c_fc": "blk.N.ffn_up",
    "transformer.h.N.mlp.c_proj": "blk.N.ffn_down",
    lm_head: "output",
  },
  bert: {
    "embeddings.word_embeddings": "token_embd",
    "encoder.layer.N.attention.self.query": "blk.N.attn_q",
    "encoder.layer.N.attention.self.key": "blk.N.attn_k",
    "encoder.layer.N.attention.self.value": "blk.N.attn_v",
    "encoder.layer.N.attention.output.dense": "blk.N.attn_output",
    "encoder.layer.N.intermediate.dense": "blk.N.ffn_up",
    "encoder.layer.N.output.dense": "blk.N.ffn_down",
  },
};

/** @throws Fault("unsupported") for an architecture whose names we do not have. */
export function architectureOf(name: string): Architecture {
  const found = ARCHITECTURES.find((known) => known === name);
  if (found) return found;
  throw new Fault("unsupported", "GGUF architecture", { expected: ARCHITECTURES.join(", "), got: name });
}

/**
 * llama.cpp's name of a module's weight, without ".weight". Exporters wrap models, so any prefix may stand
 * before the module's name, and torch's outermost part ("model", "transformer") may be missing.
 */
export function ggufName(arch: Architecture, module: string): string {
  const [generic, layer] = generalised(module);
  for (const [torch, gguf] of Object.entries(TABLES[arch])) {
    const inner = torch.replace(/^(?:model|transformer)\./, "");
    if (generic === inner || generic.endsWith(`.${inner}`)) return gguf.replace("N", layer);
  }
  throw new Fault("unsupported", `GGUF name of ${module}`, {
    expected: `a weight of ${arch}: ${Object.keys(TABLES[arch]).join(", ")}`,
    todo: "Choose the base's architecture, or leave this target out",
  });
}

/** Hugging Face's name of the module that owns a weight of llama.cpp's. */
export function torchName(arch: Architecture, weight: string): string {
  const [, layer = ""] = /^blk\.(\d+)\./.exec(weight) ?? [];
  const generic = weight.replace(/^blk\.\d+\./, "blk.N.");
  const found = Object.entries(TABLES[arch]).find(([, gguf]) => gguf === generic);
  if (found) return found[0].replace("N", layer);
  throw new Fault("unsupported", `GGUF tensor ${weight}`, {
    expected: `a weight of ${arch}: ${Object.values(TABLES[arch]).join(", ")}`,
  });
}

/** A name with its only number exchanged for N, and the number; layers are the only numbered parts. */
function generalised(module: string): readonly [string, string] {
  const numbers = module.match(/(?<=\.)\d+(?=\.)/g) ?? [];
  const layer = numbers.at(-1) ?? "";
  const at = layer === "" ? -1 : module.lastIndexOf(`.${layer}.`);
  if (at < 0) return [module, ""];
  return [`${module.slice(0, at)}.N.${module.slice(at + layer.length + 2)}`, layer];
}
