import type { Fault } from "@tutti/foundation/fault";

/** What a device is busy with, as people watching read it. */
export type Activity = "training" | "waiting" | "uploading" | "verifying" | "merging";

/** What an app may show or log. Numbers about data stay in the process: only `activity` is ever reported. */
export type DeviceEvent =
  | { readonly kind: "state"; readonly state: "connected" | "reconnecting"; readonly because?: Fault }
  | {
      readonly kind: "activity";
      readonly activity: Activity;
      readonly progress: number;
      readonly round: number;
    }
  /** The parent release on this site's own held-out rows: mean loss per row, share answered right. */
  | {
      readonly kind: "evaluated";
      readonly round: number;
      readonly rows: number;
      readonly loss: number;
      readonly accuracy: number;
    }
  | {
      readonly kind: "trained";
      readonly round: number;
      readonly rows: number;
      readonly loss: number;
      /** What ran the training graph, such as tfjs/wasm. */
      readonly engine: string;
    }
  /**
   * The round goes on without this device: others were enough, or it was late. `keeps`: a later round may
   * have what it trained or still trains.
   */
  | { readonly kind: "excused"; readonly run: string; readonly round: number; readonly keeps: boolean }
  | { readonly kind: "released"; readonly version: number; readonly run: string; readonly digest: string }
  | { readonly kind: "runOver"; readonly run: string; readonly outcome: string; readonly reason: string }
  /** The device's own certificate goes on until then, in seconds since 1970. */
  | { readonly kind: "renewed"; readonly untilS: number }
  /** No run has work for this device now, and why, in the coordinator's words. */
  | { readonly kind: "idle"; readonly because: string }
  /** The device is not open yet, and what it waits for. */
  | { readonly kind: "waits"; readonly because: string }
  | { readonly kind: "refused"; readonly because: Fault };

export type Listener = (event: DeviceEvent) => void;

/** Tells every listener; one that throws does not keep the others, or the device, from going on. */
export function emitter(): { emit: Listener; on(listener: Listener): () => void } {
  const listeners = new Set<Listener>();
  return {
    emit: (event) => {
      for (const listener of listeners) {
        try {
          listener(event);
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
    on: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
