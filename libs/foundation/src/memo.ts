/**
 * What follows from an object, made once and kept for as long as the object lives. For pure values only: the
 * one state that a library's module may hold, since nobody can tell whether a value was made or kept.
 */
export class Memo<Key extends object, Value> {
  readonly #kept = new WeakMap<Key, { readonly value: Value }>();

  of(key: Key, make: () => Value): Value {
    const kept = this.#kept.get(key) ?? { value: make() };
    this.#kept.set(key, kept);
    return kept.value;
  }
}
