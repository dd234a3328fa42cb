/** Does jobs one after the other, whatever becomes of those before; each caller hears of its own. */
export type Queue = <T>(job: () => T | Promise<T>) => Promise<T>;

export function queue(): Queue {
  let before: Promise<void> = Promise.resolve();
  return (job) => {
    const mine = before.then(job);
    // Nothing of a job stays: neither what it gave, nor why it failed.
    before = mine.then(
      () => {},
      () => {},
    );
    return mine;
  };
}
