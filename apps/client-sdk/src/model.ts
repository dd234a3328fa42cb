import { Fault } from "@tutti/foundation/fault";
import type { Tensors } from "@tutti/graph/ir";

/** Which release answers; null while it is the base model. */
export type ModelRelease = { readonly version: number; readonly run: string; readonly digest: string };

/** A loaded ONNX file. */
export type Running = { run(feeds: Tensors): Promise<Tensors>; release(): Promise<void> };

/** What runs ONNX files for answers: onnxruntime-node, onnxruntime-web. */
export type Runtime = { open(model: Uint8Array): Promise<Running> };

/** The device's model: the same object before and after a release, so that an app may hold on to it. */
export type Model = {
  readonly release: ModelRelease | null;
  /** Answers by output name. Calls in flight while a release comes in end on the model they began on. */
  run(feeds: Tensors): Promise<Tensors>;
};

type Slot = {
  readonly running: Running;
  readonly release: ModelRelease | null;
  calls: number;
  retired: boolean;
};

/** The model's other side, which activation uses. */
export type ModelHolder = {
  readonly model: Model;
  readonly loaded: boolean;
  /** Rejected releases that came again, by digest: each is told of once. */
  readonly skipped: Set<string>;
  swap(running: Running, release: ModelRelease | null): Promise<void>;
  close(): Promise<void>;
};

export function modelHolder(): ModelHolder {
  let slot: Slot | null = null;
  async function retire(old: Slot | null): Promise<void> {
    if (old === null) return;
    old.retired = true;
    if (old.calls === 0) await old.running.release();
  }
  async function run(feeds: Tensors): Promise<Tensors> {
    const used = slot;
    if (used === null) {
      const todo = "Take part in a run first: the base model comes with its invitation";
      throw new Fault("not-found", "model", { expected: "a base model or a release", got: "none yet", todo });
    }
    used.calls++;
    try {
      return await used.running.run(feeds);
    } finally {
      used.calls--;
      if (used.retired && used.calls === 0) await used.running.release();
    }
  }
  async function swap(running: Running, release: ModelRelease | null): Promise<void> {
    const old = slot;
    slot = { running, release, calls: 0, retired: false };
    await retire(old);
  }
  return {
    model: {
      run,
      get release() {
        return slot?.release ?? null;
      },
    },
    get loaded() {
      return slot !== null;
    },
    skipped: new Set(),
    swap,
    close: async () => {
      const old = slot;
      slot = null;
      await retire(old);
    },
  };
}
