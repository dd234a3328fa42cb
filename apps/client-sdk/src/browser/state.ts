import type { OwnState } from "../state.ts";

/** What a browser may have of it; few have all. Battery Status API and Network Information API (W3C). */
type Battery = EventTarget & { readonly charging: boolean };
type Connection = EventTarget & { readonly type?: string; readonly saveData?: boolean };
type Known = {
  readonly getBattery?: () => Promise<Battery>;
  readonly connection?: Connection;
};

/**
 * A page's state, as far as the browser tells it, for `openDevice`'s `state`; `changed` is called whenever it
 * changes, for `device.stateChanged()`. Idle is what no page can know: an app that does adds it.
 */
export async function browserState(
  changed: () => void,
  { navigator = globalThis.navigator as Known, signal }: { navigator?: Known; signal?: AbortSignal } = {},
): Promise<() => OwnState> {
  const battery = await navigator.getBattery?.().catch(() => undefined);
  const { connection } = navigator;
  const until = signal ? { signal } : {};
  battery?.addEventListener("chargingchange", changed, until);
  connection?.addEventListener("change", changed, until);
  return () => ({
    ...(battery && { charging: battery.charging }),
    ...unmetered(connection),
  });
}

function unmetered(connection: Connection | undefined): OwnState {
  if (connection?.saveData) return { unmetered: false };
  const { type } = connection ?? {};
  if (type === "cellular") return { unmetered: false };
  return type === "wifi" || type === "ethernet" ? { unmetered: true } : {};
}
