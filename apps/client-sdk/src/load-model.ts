import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import type { ModelHolder } from "./model.ts";
import type { Site } from "./site.ts";

/**
 * Serves what the store points at; a release that does not load any more gives way to the one before, or
 * the base.
 */
export async function loadModel({ store, runtime, emit }: Site, holder: ModelHolder): Promise<void> {
  for (let pointer = await store.pointer(); pointer.current !== null; pointer = await store.pointer()) {
    const digest = pointer.current;
    try {
      const held = await store.release(digest);
      demand(
        held,
        () => new Fault("storage", `release ${digest}`, { expected: "all of it", got: "damaged files" }),
      );
      const { run, version } = held;
      return await holder.swap(await runtime.open(held.model), { run, version, digest });
    } catch (error) {
      emit({ kind: "refused", because: asFault(error) });
      // Not rejected, as what people went back from is: the same bytes may come again, whole.
      await store.rollback({ reject: false, from: digest });
    }
  }
  const { base } = await store.pointer();
  const bytes = base === null ? null : await store.artifact(base);
  if (bytes) await holder.swap(await runtime.open(bytes), null);
}

/** Leaves the release that answers for good, and serves the one before, or the base. */
export async function goBack(site: Site, holder: ModelHolder): Promise<void> {
  const left = holder.model.release?.digest ?? null;
  // Asked again after a write that failed, it may be gone back from already: what failed may be there.
  await site.store.rollback({ reject: true, from: left });
  site.audit?.note({ actor: "site", what: "release.rolled-back", subject: left ?? "none" });
  await loadModel(site, holder);
}
