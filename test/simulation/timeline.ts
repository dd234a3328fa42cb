/** Something that will happen, unless it is called off before. */
export type Planned = { readonly atMs: number; cancel(): void };

type Event = { readonly atMs: number; readonly order: number; act: (() => void) | null };

/** Before anything is replaced (real.ts): what lets every promise that can go on do so. */
const settled = (
  (turn) => () =>
    new Promise<void>((resolve) => void turn(resolve))
)(setImmediate);

/**
 * Virtual time: one event after another, by moment and then by when it was planned. Between two events every
 * promise that can go on has gone on, so nothing depends on how fast this machine is.
 */
export class Timeline {
  nowMs = 0;
  #order = 0;
  /** A binary heap: the soonest is first. */
  readonly #heap: Event[] = [];

  after(ms: number, act: () => void): Planned {
    const event: Event = { atMs: this.nowMs + Math.max(0, ms), order: this.#order++, act };
    this.#push(event);
    const cancel = () => {
      event.act = null;
    };
    return { atMs: event.atMs, cancel };
  }

  /** Events happen until `done`, which is asked after each, or until none is left; whether it was done. */
  async run(done: () => boolean | Promise<boolean>): Promise<boolean> {
    for (let event = this.#pop(); event !== undefined; event = this.#pop()) {
      const { act, atMs } = event;
      if (act === null) continue;
      this.nowMs = atMs;
      act();
      await settled();
      if (await done()) return true;
    }
    return false;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
