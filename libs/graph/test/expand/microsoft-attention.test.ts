import { seededRandom } from "@tutti/foundation/random";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../../src/ir.ts";
import { checkGradient, type Input } from "../gradient/check.ts";
import {
  type AttributeInit,
  agrees,
  type Case,
  expectClose,
  f32,
  i32,
  onTfjs,
  reference,
} from "../tfjs/harness.ts";

const random = seededRandom(11);
const draw = (...shape: number[]): Tensor =>
  f32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.uniform() * 2 - 1),
  );
const check = (op: string, rest: Partial<Case> & { inputs: Case["inputs"] }) =>
  agrees({ op, domain: "com.microsoft", ...rest }, 1e-5);

const [B, S, H, D] = [2, 3, 2, 4];

describe("Attention", () => {
  const x = () => draw(B, S, 5);
  const w = (v = H * D) => draw(5, 2 * H * D + v);
  const attributes = { num_heads: H };
  const cases: [string, Partial<Case> & { inputs: Case["inputs"] }][] = [
    ["plain", { inputs: [x(), w(), draw(3 * H * D)] }],
    ["scale", { attributes: { scale: { float: 0.3 } }, inputs: [x(), w(), draw(3 * H * D)] }],
    ["unidirectional", { attributes: { unidirectional: 1 }, inputs: [x(), w(), draw(3 * H * D)] }],
    [
      "values of another size",
      { attributes: { qkv_hidden_sizes: [8, 8, 6] }, inputs: [x(), w(6), draw(2 * H * D + 6)] },
    ],
    ["raw mask", { inputs: [x(), w(), draw(24), i32([B, S], [1, 1, 0, 0, 1, 1])] }],
    [
      "raw mask, a value of its own for it",
      {
        attributes: { mask_filter_value: { float: -2 } },
        inputs: [x(), w(), draw(24), i32([B, S], [1, 1, 0, 0, 1, 1])],
      },
    ],
    [
      "mask by query",
      {
        inputs: [
          x(),
          w(),
          draw(24),
          i32(
            [B, S, S],
            [...Array(18).keys()].map((i) => i % 2),
          ),
        ],
      },
    ],
    ["lengths", { inputs: [x(), w(), draw(24), i32([B], [3, 2])] }],
    ["ends and starts", { inputs: [x(), w(), draw(24), i32([2 * B], [3, 2, 1, 0])] }],
    [
      "raw mask and unidirectional",
      { attributes: { unidirectional: 1 }, inputs: [x(), w(), draw(24), i32([B, S], [1, 1, 0, 0, 1, 1])] },
    ],
    ["attention bias", { inputs: [x(), w(), draw(24), undefined, undefined, draw(1, H, S, S)] }],
    [
      "past and present, unidirectional",
      {
        attributes: { unidirectional: 1 },
        inputs: [x(), w(), draw(24), undefined, draw(2, B, H, 2, D)],
        outputs: 2,
      },
    ],
    [
      "past and a mask over all keys",
      {
        inputs: [x(), w(), draw(24), i32([B, 5], [1, 1, 1, 1, 0, 0, 1, 1, 1, 1]), draw(2, B, H, 2, D)],
        outputs: 2,
      },
    ],
  ];
  for (const [name, it] of cases) {
    test(name, () => check("Attention", { ...it, attributes: { ...attributes, ...it.attributes } }));
  }
});

describe("MultiHeadAttention", () => {
  const L = 5;
  const hidden = H * D;
  const qkv = () => [draw(B, S, hidden), draw(B, L, hidden), draw(B, L, hidden)];
  const no = undefined;
  const cases: [string, Partial<Case> & { inputs: Case["inputs"] }][] = [
    ["apart", { inputs: qkv() }],
    ["apart, values of another size", { inputs: [draw(B, S, hidden), draw(B, L, hidden), draw(B, L, 6)] }],
    ["bias", { inputs: [...qkv(), draw(3 * hidden)] }],
    ["upright keys", { inputs: [draw(B, S, hidden), draw(B, H, L, D), draw(B, H, L, D)] }],
    [
      "upright keys, with bias",
      { inputs: [draw(B, S, hidden), draw(B, H, L, D), draw(B, H, L, D), draw(3 * hidden)] },
    ],
    ["lengths", { inputs: [...qkv(), no, i32([B], [2, 5])] }],
    ["padding mask", { inputs: [...qkv(), no, i32([B, L], [1, 1, 1, 0, 0, 1, 1, 1, 1, 1])] }],
    [
      "padding mask by query",
      {
        inputs: [
          ...qkv(),
          no,
          i32(
            [B, S, L],
            [...Array(30).keys()].map((i) => i % 3),
          ),
        ],
      },
    ],
    ["attention bias", { inputs: [...qkv(), no, no, draw(B, H, S, L)] }],
    ["attention bias, broadcast", { inputs: [...qkv(), no, no, draw(1, 1, S, L)] }],
    [
      "unidirectional",
      {
        attributes: { unidirectional: 1 },
        inputs: [draw(B, S, hidden), draw(B, S, hidden), draw(B, S, hidden)],
      },
    ],
    ["present", { inputs: qkv(), outputs: 3 }],
    ["past and present", { inputs: [...qkv(), no, no, no, draw(B, H, 2, D), draw(B, H, 2, D)], outputs: 3 }],
    ["scale", { attributes: { scale: { float: 0.2 } }, inputs: qkv() }],
  ];
  for (const [name, it] of cases) {
    test(name, () => check("MultiHeadAttention", { ...it, attributes: { num_heads: H, ...it.attributes } }));
  }
});

describe("MultiHeadAttention packed, which onnxruntime lacks on the CPU, is as the same apart", () => {
  const hidden = H * D;
  for (const biased of [false, true]) {
    for (const count of [2, 3]) {
      test(`${count} packed${biased ? ", with bias" : ""}`, async () => {
        const parts = Array.from({ length: 3 }, () => draw(B, S, hidden));
        const bias = biased ? draw(3 * hidden) : undefined;
        const apart: Case = {
          op: "MultiHeadAttention",
          domain: "com.microsoft",
          attributes: { num_heads: H },
          inputs: [...parts, bias],
        };
        const wanted = await reference(apart);
        const packed = pack(parts.slice(3 - count));
        const inputs = [...parts.slice(0, 3 - count), packed, ...new Array(count - 1).fill(undefined), bias];
        const got = await onTfjs("wasm", { ...apart, inputs }, wanted);
        expectClose(got.get("y0")!, wanted.get("y0")!, "output", 1e-5);
      });
    }
  }
});

/** `[batch, sequence, heads·size]` each as one `[batch, sequence, heads, count, size]`. */
function pack(parts: readonly Tensor[]): Tensor {
  const count = parts.length;
  const values = Array.from({ length: B * S * H * count * D }, (_, at) => {
    const [d, part, rest] = [at % D, Math.floor(at / D) % count, Math.floor(at / D / count)];
    return parts[part]!.data[rest * D + d] as number;
  });
  return f32([B, S, H, count, D], values);
}

describe("GroupQueryAttention", () => {
  const [heads, shared, size] = [4, 2, 16];
  const group = { num_heads: heads, kv_num_heads: shared };
  const no = undefined;
  type Asked = {
    attributes?: Record<string, AttributeInit>;
    batch?: number;
    queries?: number;
    before?: number;
    buffer?: number;
    packed?: boolean;
    rotary?: boolean;
    rest?: (Tensor | undefined)[];
    seqlens?: number[];
    constant?: number[];
    outputs?: number;
  };
  const it = (asked: Asked) => {
    const {
      batch = B,
      queries = 4,
      before = 0,
      packed = false,
      rotary = false,
      rest = [],
      outputs = 3,
    } = asked;
    const buffer = asked.buffer ?? before;
    const total = before + queries;
    const cache = () => draw(batch, shared, buffer, size);
    const angles = () => draw(16, size / 2);
    const node: Case = {
      op: "GroupQueryAttention",
      domain: "com.microsoft",
      attributes: { ...group, ...(rotary ? { do_rotary: 1 } : {}), ...asked.attributes },
      inputs: [
        draw(batch, queries, (packed ? heads + 2 * shared : heads) * size),
        packed ? no : draw(batch, queries, shared * size),
        packed ? no : draw(batch, queries, shared * size),
        cache(),
        cache(),
        i32([batch], asked.seqlens ?? new Array(batch).fill(total - 1)),
        i32([1], [total]),
        rotary ? angles() : no,
        rotary ? angles() : no,
        ...rest,
      ],
      constant: asked.constant ?? [5, 6],
      outputs: 3,
    };
    return outputs === 3 ? agrees(node, 1e-5) : firstAgrees(node);
  };
  /** Caches of examples that differ in length are refused, their attention is not. */
  const firstAgrees = async (node: Case) => {
    const wanted = (await reference(node)).get("y0")!;
    const got = await onTfjs("wasm", { ...node, outputs: 1 }, new Map([["y0", wanted]]));
    expectClose(got.get("y0")!, wanted, "output", 1e-5);
  };
  const cases: [string, Asked][] = [
    ["prompt", {}],
    ["prompt, lengths fed", { constant: [6] }],
    ["prompt, packed", { packed: true }],
    ["prompt, rotary", { rotary: true }],
    ["prompt, rotary and packed", { rotary: true, packed: true }],
    ["prompt, rotary interleaved", { rotary: true, attributes: { rotary_interleaved: 1 } }],
    ["prompt, softcap and scale", { attributes: { softcap: { float: 0.5 }, scale: { float: 0.7 } } }],
    ["prompt, window of 2", { attributes: { local_window_size: 2 } }],
    ["prompt, smooth softmax", { attributes: { smooth_softmax: 1 } }],
    ["prompt, sinks", { rest: [no, no, draw(heads)] }],
    ["prompt, attention bias", { rest: [no, draw(1, heads, 4, 4)] }],
    ["prompt, a buffer longer than it", { buffer: 6, before: 0 }],
    ["one more token", { queries: 1, before: 3 }],
    [
      "one more token, rotary, window of 2",
      { queries: 1, before: 3, rotary: true, attributes: { local_window_size: 2 } },
    ],
    ["one more token, lengths fed", { queries: 1, before: 3, constant: [6], outputs: 1 }],
    [
      "one more token, rotary, by example",
      { queries: 1, before: 5, rotary: true, constant: [6], seqlens: [5, 3], outputs: 1 },
    ],
    [
      "one more token, window, by example",
      {
        queries: 1,
        before: 5,
        attributes: { local_window_size: 3 },
        constant: [6],
        seqlens: [5, 3],
        outputs: 1,
      },
    ],
    ["one more token, in a buffer", { queries: 1, before: 3, buffer: 6, rotary: true }],
    ["two more tokens", { batch: 1, queries: 2, before: 3, rotary: true }],
  ];
  for (const [name, asked] of cases) test(name, () => it(asked));
});

describe("RotaryEmbedding", () => {
  const cases: [string, Partial<Case> & { inputs: Case["inputs"] }][] = [];
  for (const interleaved of [0, 1]) {
    const attributes = { interleaved };
    const tables = () => [draw(9, 4), draw(9, 4)];
    const ids: Tensor = { dtype: "int64", shape: [B, S], data: BigInt64Array.from([0n, 1n, 2n, 5n, 6n, 8n]) };
    const first: Tensor = { dtype: "int64", shape: [1], data: BigInt64Array.from([4n]) };
    const part = { num_heads: 2, rotary_embedding_dim: 4 };
    cases.push(
      [`rank 4, ${interleaved}`, { attributes, inputs: [draw(B, H, S, 8), ids, ...tables()] }],
      [`rank 3, ${interleaved}`, { attributes, inputs: [draw(B, S, 16), ids, ...tables()] }],
      [`a first position, ${interleaved}`, { attributes, inputs: [draw(B, S, 16), first, ...tables()] }],
      [
        `part, ${interleaved}`,
        { attributes: { ...attributes, ...part }, inputs: [draw(B, S, 16), ids, draw(9, 2), draw(9, 2)] },
      ],
    );
  }
  for (const [name, it] of cases) test(name, () => check("RotaryEmbedding", it));
});

describe("gradients", () => {
  const fed = (...shape: number[]): Input => ({ shape });
  const held = (tensor: Tensor): Input => ({ tensor });
  const gradient = (op: string, inputs: readonly Input[], attributes: Record<string, number>) =>
    checkGradient({ op: `com.microsoft::${op}`, inputs, attributes, range: [-1, 1] });
  test("Attention: X, weights, bias", async () => {
    const mask = held(i32([B, S], [1, 1, 0, 0, 1, 1]));
    await gradient("Attention", [fed(B, S, 3), fed(3, 12), fed(12), mask], {
      num_heads: 2,
      unidirectional: 1,
    });
  });
  test("MultiHeadAttention: Q, K, V, bias, attention bias", async () => {
    const inputs = [fed(1, 2, 4), fed(1, 3, 4), fed(1, 3, 4), fed(12), undefined, fed(1, 2, 2, 3)];
    await gradient("MultiHeadAttention", inputs, { num_heads: 2 });
  });
  test("GroupQueryAttention: Q, K, V through rotary positions, sinks", async () => {
    const none: Input = { shape: [1, 1, 0, 4], frozen: true };
    const sizes = [held(i32([1], [2])), held(i32([1], [3]))];
    const angles: Input = { shape: [4, 2], frozen: true };
    const inputs = [fed(1, 3, 8), fed(1, 3, 4), fed(1, 3, 4), none, none, ...sizes, angles, angles];
    const sinks = [...inputs, undefined, undefined, fed(2)];
    await gradient("GroupQueryAttention", sinks, { num_heads: 2, kv_num_heads: 1, do_rotary: 1 });
  });
  test("RotaryEmbedding: X", async () => {
    const ids = held({ dtype: "int64", shape: [1], data: BigInt64Array.from([1n]) });
    const angles: Input = { shape: [4, 2], frozen: true };
    await gradient("RotaryEmbedding", [fed(1, 2, 8), ids, angles, angles], { interleaved: 1 });
  });
});

describe("what is not supported is refused by name", () => {
  const refused = (op: string, rest: Partial<Case> & { inputs: Case["inputs"] }, shapes: readonly Tensor[]) =>
    onTfjs(
      "cpu",
      { op, domain: "com.microsoft", outputs: shapes.length, ...rest },
      new Map(shapes.map((y, i) => [`y${i}`, y])),
    );
  const packed = [draw(B, S, 5), draw(5, 3 * H * D), draw(3 * H * D)];
  const y = draw(B, S, H * D);
  test("Attention: do_rotary, a mask of rank 4", async () => {
    const rotary = refused("Attention", { attributes: { num_heads: H, do_rotary: 1 }, inputs: packed }, [y]);
    await expect(rotary).rejects.toThrow(/com.microsoft.Attention "it".*attribute do_rotary.*expected 0/);
    const mask = i32([B, 1, 4, 4], new Array(32).fill(1));
    const square = refused("Attention", { attributes: { num_heads: H }, inputs: [...packed, mask] }, [y]);
    await expect(square).rejects.toThrow(/Attention "it".*input 3 \(mask\).*\[2,1,4,4\]/);
  });
  test("GroupQueryAttention: caches of examples that differ in length", async () => {
    const cache = draw(B, 1, 4, 16);
    const inputs = [
      draw(B, 1, 32),
      draw(B, 1, 16),
      draw(B, 1, 16),
      cache,
      cache,
      i32([B], [4, 3]),
      i32([1], [5]),
    ];
    const attributes = { num_heads: 2, kv_num_heads: 1 };
    const outputs = [draw(B, 1, 32), draw(B, 1, 5, 16), draw(B, 1, 5, 16)];
    await expect(
      refused("GroupQueryAttention", { attributes, inputs, constant: [6] }, outputs),
    ).rejects.toThrow(/GroupQueryAttention "it".*present_key.*seqlens_k known/);
  });
  const prompt = [draw(B, 2, 32), draw(B, 2, 16), draw(B, 2, 16), draw(B, 1, 0, 16), draw(B, 1, 0, 16)];
  const lengths = [i32([B], [1, 1]), i32([1], [2])];
  const asked = (attributes: Record<string, AttributeInit>, more: (Tensor | undefined)[] = []) =>
    refused(
      "GroupQueryAttention",
      {
        attributes: { num_heads: 2, kv_num_heads: 1, ...attributes },
        ...{ inputs: [...prompt, ...lengths, ...more], constant: [5, 6] },
      },
      [draw(B, 2, 32)],
    );
  test.each([
    ["causal", 0],
    ["sliding_window_cache", 1],
    ["kv_cache_bit_width", 4],
    ["k_quant_type", "PER_TENSOR"],
    ["v_quant_type", "PER_CHANNEL"],
    ["qk_output", 1],
  ])("GroupQueryAttention: %s %s", async (name, value) => {
    await expect(asked({ [name]: value })).rejects.toThrow(`attribute ${name}: expected`);
  });
  test.each([
    [14, "q_norm_weight"],
    [15, "k_norm_weight"],
  ])("GroupQueryAttention: input %i, %s", async (index, name) => {
    const more = [...new Array<undefined>(index - 7).fill(undefined), draw(16)];
    await expect(asked({}, more)).rejects.toThrow(`input ${index} (${name}): expected nothing`);
  });
  test("RotaryEmbedding: scale 2", async () => {
    const inputs = [draw(1, 2, 8), i32([1], [0]), draw(4, 2), draw(4, 2)];
    const scaled = refused("RotaryEmbedding", { attributes: { scale: { float: 2 } }, inputs }, [
      draw(1, 2, 8),
    ]);
    await expect(scaled).rejects.toThrow("attribute scale: expected 1, got 2");
  });
});
