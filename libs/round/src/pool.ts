import type { SeededRandom } from "@tutti/foundation/random";

/** A set that one may draw from: adding, removing and drawing take the same time however many it holds. */
export class Pool {
  readonly #items: string[] = [];
  readonly #at = new Map<string, number>();

  get size(): number {
    return this.#items.length;
  }

  has(item: string): boolean {
    return this.#at.has(item);
  }

  add(item: string): void {
    if (this.#at.has(item)) return;
    this.#at.set(item, this.#items.length);
    this.#items.push(item);
  }

  delete(item: string): void {
    const at = this.#at.get(item);
    const last = this.#items.at(-1);
    if (at === undefined || last === undefined) return;
    this.#items[at] = last;
    this.#at.set(last, at);
    this.#items.pop();
    this.#at.delete(item);
  }

  /** Any of them, each as likely; undefined of none. It stays in. */
  draw(random: SeededRandom): string | undefined {
    return this.#items.length === 0 ? undefined : this.#items[random.below(this.#items.length)];
  }
}
