import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { Fault } from "@tutti/foundation/fault";

/**
 * Appends text to a file, on disk when it returns.
 * @throws Fault("storage") when that is not sure.
 */
export function appendSynced(file: string): (text: string) => void {
  /** Whoever made the file may have been killed before its name was synced, so each process syncs it once. */
  let named = false;
  return (text) => {
    try {
      synced(file, "a", (handle) => writeSync(handle, text));
      // Its name too: a file lost with the power is an empty one.
      if (!named) synced(dirname(file), "r");
      named = true;
    } catch (cause) {
      throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
    }
  };
}

function synced(path: string, flags: "a" | "r", write: (handle: number) => void = () => {}): void {
  const handle = openSync(path, flags);
  try {
    write(handle);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
