import { assert } from "@tutti/foundation/check";
import { sizeOf, type Tensor } from "../../ir.ts";
import { download, upload } from "./convert.ts";
import type { Tf, TfTensor } from "./tfjs.ts";

/** Up to this many elements are read back when folded: later nodes may use them as shapes, axes, bounds. */
const READ_BACK = 4096;

/**
 * The constants of one program on the backend, each uploaded when a node first asks for it, in the form the
 * node asks for: a key is a value's name, or the name with the change made to it (a transposed weight).
 */
export class Constants {
  readonly #tf: Tf;
  readonly #known: Map<string, Tensor>;
  readonly #changes = new Map<string, { name: string; change: (whole: TfTensor) => TfTensor }>();
  readonly #held = new Map<string, TfTensor>();
  readonly #kept: TfTensor[] = [];

  constructor(tf: Tf, known: ReadonlyMap<string, Tensor>) {
    this.#tf = tf;
    this.#known = new Map(known);
  }

  /** Values as plain data, where they are small or came with the graph. */
  data(name: string): Tensor | undefined {
    return this.#known.get(name);
  }

  has(key: string): boolean {
    return this.#known.has(key) || this.#held.has(key) || this.#changes.has(key);
  }

  add(name: string, tensor: Tensor): void {
    this.#known.set(name, tensor);
  }

  /** Another form of a constant, under its own key; made once however many nodes ask. */
  change(name: string, how: string, change: (whole: TfTensor) => TfTensor): string {
    const key = `${name}\n${how}`;
    this.#changes.set(key, { name, change });
    return key;
  }

  /** The tensor behind a key; lives until `release` or `retain` drops it. */
  get(key: string): TfTensor {
    const held = this.#held.get(key);
    if (held) return held;
    const fresh = this.#tf.tidy(() => this.#tf.keep(this.#make(key)));
    this.#held.set(key, fresh);
    return fresh;
  }

  #make(key: string): TfTensor {
    const changed = this.#changes.get(key);
    if (!changed) return this.#upload(key);
    const whole = this.#held.get(changed.name) ?? this.#upload(changed.name);
    const fresh = changed.change(whole);
    return fresh === whole ? this.#tf.clone(fresh) : fresh;
  }

  #upload(name: string): TfTensor {
    const tensor = this.#known.get(name);
    assert(tensor, `constant ${name} is known`);
    return upload(this.#tf, tensor, name);
  }

  /** A tensor a kernel made while loading; lives as long as the program. */
  keep(tensor: TfTensor): TfTensor {
    this.#kept.push(this.#tf.keep(tensor));
    return tensor;
  }

  /** Takes the result of a folded node as a constant. */
  async fold(name: string, tensor: TfTensor, dtype: Tensor["dtype"]): Promise<void> {
    this.#held.set(name, tensor);
    if (sizeOf(tensor.shape) <= READ_BACK) {
      this.#known.set(name, await download(tensor, dtype, tensor.shape));
    }
  }

  /**
   * Frees every constant whose key is not among `keys`, and the plain data of those that are on the backend:
   * from here on the weights are held once.
   */
  retain(keys: ReadonlySet<string>): void {
    for (const [key, tensor] of this.#held) {
      if (keys.has(key)) continue;
      tensor.dispose();
      this.#held.delete(key);
    }
    for (const [key, { shape }] of this.#known) if (sizeOf(shape) > READ_BACK) this.#known.delete(key);
  }

  release(): void {
    this.retain(new Set());
    for (const tensor of this.#kept.splice(0)) tensor.dispose();
  }
}
