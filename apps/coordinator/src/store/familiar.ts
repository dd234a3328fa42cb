import { asFault, type FaultCode } from "@tutti/foundation/fault";
import type { Device, Store } from "./store.ts";

/** Devices kept in memory, a few hundred bytes each; beyond it all are forgotten and read again. */
const MOST = 20_000;
/** What a write fails with that may be durable. */
const UNKNOWN: ReadonlySet<FaultCode> = new Set<FaultCode>(["storage", "unavailable"]);

/**
 * The same store; a device's row, which every request of it asks for, is read once until it is written. Only
 * whoever leads writes rows, and only through here: so this lasts for one term, and no longer.
 */
export function remembering(store: Store): Store {
  const rows = new Map<string, Device>();
  /** Rows whose last write failed: it may become durable even after the next time that it is read. */
  const unsure = new Set<string>();
  let writes = 0;
  /** However the write ends: one that failed may be on disk. */
  const writing = async <T>(name: string, body: () => Promise<T>): Promise<T> => {
    try {
      const result = await body();
      unsure.delete(name);
      return result;
    } catch (cause) {
      if (UNKNOWN.has(asFault(cause).code)) unsure.add(name);
      throw cause;
    } finally {
      writes++;
      rows.delete(name);
    }
  };
  return {
    ...store,
    async device(name) {
      const known = rows.get(name);
      if (known) return known;
      const before = writes;
      const row = await store.device(name);
      // One that was read while something was written may be older than that.
      if (row === undefined || before !== writes || unsure.has(name)) return row;
      if (rows.size >= MOST) rows.clear();
      rows.set(name, row);
      return row;
    },
    addDevice: (device) => writing(device.name, () => store.addDevice(device)),
    trust: {
      ...store.trust,
      renew: (name, renewed) => writing(name, () => store.trust.renew(name, renewed)),
      revoke: (name, list, by) => writing(name, () => store.trust.revoke(name, list, by)),
    },
  };
}
