import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/** What we use of an adapter_config.json (PEFT's LoraConfig). */
export type PeftConfig = {
  readonly rank: number;
  readonly alpha: number;
  readonly rslora: boolean;
  /** Regular expressions over module names; the first that matches a dotted suffix counts. */
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
};

/** Keys that we read, or that say nothing about what the tensors mean. Any other key must be off. */
const KNOWN: ReadonlySet<string> = new Set([
  "peft_type",
  "r",
  "lora_alpha",
  "use_rslora",
  "rank_pattern",
  "alpha_pattern",
  "init_lora_weights",
  "bias",
  // The tensors themselves name the modules; fan_in_fan_out tells of the base's weight, not of the factors.
  "target_modules",
  "exclude_modules",
  "modules_to_save",
  "layers_to_transform",
  "layers_pattern",
  "fan_in_fan_out",
  "base_model_name_or_path",
  "revision",
  "task_type",
  "inference_mode",
  "auto_mapping",
  "peft_version",
  "lora_dropout",
  "runtime_config",
  "megatron_core",
  "qalora_group_size",
  // How A began, which its values say by now.
  "eva_config",
]);

/**
 * How A and B may have begun; the others change the base's weights too, so its file would be the wrong one.
 */
const BEGINNINGS: ReadonlySet<unknown> = new Set([true, false, "gaussian", "eva", "orthogonal", undefined]);

/** A checked config; a Fault names each key that is set and means something we do not do. */
export function parsePeftConfig(text: string): PeftConfig {
  const config = parseObject(text);
  const { peft_type: type, bias = "none", init_lora_weights: init, r, lora_alpha: alpha } = config;
  const { use_rslora: rslora, rank_pattern: ranks, alpha_pattern: alphas } = config;
  demand(type === "LORA", () => bad("peft_type", "LORA", type));
  const strange = Object.entries(config).filter(([key, value]) => !KNOWN.has(key) && isOn(value));
  if (bias !== "none") strange.push(["bias", bias]);
  if (!BEGINNINGS.has(init)) strange.push(["init_lora_weights", init]);
  demand(strange.length === 0, () => {
    const got = strange.map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join(", ");
    return new Fault("unsupported", "adapter_config.json", { expected: "plain LoRA", got });
  });
  return {
    rank: positive("r", r),
    alpha: positive("lora_alpha", alpha),
    rslora: rslora === true,
    rankPattern: patterns("rank_pattern", ranks),
    alphaPattern: patterns("alpha_pattern", alphas),
  };
}

/**
 * The value for a module: of the first pattern that is its name or a dotted suffix (PEFT, get_pattern_key).
 */
export function patternValue(patterns: Readonly<Record<string, number>>, module: string): number | undefined {
  const found = Object.entries(patterns).find(([key]) => new RegExp(`^(.*\\.)?(${key})$`).test(module));
  return found?.[1];
}

/** A pattern that means one module and none whose name ends in its name. */
export function literalPattern(module: string): string {
  return `^${module.replaceAll(".", "\\.")}`;
}

function parseObject(text: string): Record<string, unknown> {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new Fault("bad-input", "adapter_config.json", { expected: "JSON", got: "other text", cause });
  }
  demand(typeof config === "object" && config !== null, () => bad("file", "an object", config));
  return config as Record<string, unknown>;
}

/** Whether a value switches something on: empty containers and "nothing" in its spellings do not. */
function isOn(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

function positive(key: string, value: unknown): number {
  demand(typeof value === "number" && Number.isFinite(value) && value > 0, () =>
    bad(key, "a number above 0", value),
  );
  return value;
}

/**
 * Names, with dots that may be escaped and a few `.*` or `\d+`. A file from elsewhere must not bring an
 * expression that takes forever: none of these nests a repetition.
 */
const HARMLESS = /^\^?(?:[\w-]|\\?\.(?![*+?])|\.\*|\\d\+|\\d){1,256}\$?$/;

function patterns(key: string, value: unknown = {}): Readonly<Record<string, number>> {
  const object = value ?? {};
  demand(typeof object === "object" && !Array.isArray(object), () => bad(key, "an object", value));
  for (const [pattern, number] of Object.entries(object)) {
    positive(`${key}["${pattern}"]`, number);
    const simple = HARMLESS.test(pattern) && pattern.split(/\.\*|\\d\+/).length <= 4;
    demand(
      simple,
      () => new Fault("unsupported", `adapter_config.json, ${key}`, { got: `the pattern ${pattern}` }),
    );
  }
  return object as Readonly<Record<string, number>>;
}

function bad(key: string, expected: string, value: unknown): Fault {
  return new Fault("bad-input", `adapter_config.json, ${key}`, {
    expected,
    got: JSON.stringify(value) ?? "nothing",
  });
}
