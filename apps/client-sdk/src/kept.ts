import type { Plan } from "@tutti/plan/plan";

/**
 * What was made for the plans that were used last. One that is in use is not let go of, though there be more
 * than `most`; making one failed: the next call tries again.
 */
export function keepLatest<T>(options: {
  most: number;
  make: (plan: Plan) => Promise<T>;
  drop?: (old: T) => Promise<void>;
  inUse?: (value: T) => boolean;
}) {
  const { most, make, drop = async () => {}, inUse = () => false } = options;
  /** By plan, the one that was used last at the end. */
  const held = new Map<string, Promise<T>>();

  async function release(key: string): Promise<void> {
    const value = held.get(key);
    held.delete(key);
    await value?.then(drop, () => {});
  }

  async function makeRoom(): Promise<void> {
    for (const [key, value] of [...held]) {
      if (held.size < most) return;
      const used = await value.then(inUse, () => false);
      if (!used) await release(key);
    }
  }

  return {
    close: async () => {
      for (const key of [...held.keys()]) await release(key);
    },
    get: async (plan: Plan): Promise<T> => {
      const key = JSON.stringify(plan);
      const there = held.get(key);
      if (there) {
        held.delete(key);
        held.set(key, there);
        return await there;
      }
      await makeRoom();
      const made = held.get(key) ?? make(plan);
      held.set(key, made);
      made.catch(() => {
        if (held.get(key) === made) held.delete(key);
      });
      return await made;
    },
  };
}
