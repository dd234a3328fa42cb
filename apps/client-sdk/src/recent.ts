/** Most values of one generation; two are kept. */
const DEFAULT_MOST = 4096;

/**
 * A bounded memory of what was used lately: two generations, of which the older is forgotten when the younger
 * is full. Whatever is asked for between two such moments stays, so things used once push out nothing that is
 * used in every round.
 */
export class Recent<Value> {
  readonly #most: number;
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();

  constructor(most = DEFAULT_MOST) {
    this.#most = most;
  }

  get(key: string): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: string, value: Value): void {
    if (this.#young.size >= this.#most) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }
}
