import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { assert } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";

/**
 * Appends text to a file, all of it on disk when it returns.
 * @throws Fault("storage") when that is not sure; what was written of it is taken back, and where that fails
 * too nothing more is appended.
 */
export function appendSynced(file: string): (text: string) => void {
  /** Whoever made the file may have been killed before its name was synced, so each process syncs it once. */
  let named = false;
  let torn = false;
  const append = (handle: number, text: string) => {
    const { size } = fstatSync(handle);
    try {
      writeWhole(handle, Buffer.from(text));
    } catch (cause) {
      torn = true;
      ftruncateSync(handle, size);
      torn = false;
      throw cause;
    }
  };
  return (text) => {
    try {
      assert(!torn, "nothing is appended to a torn line");
      synced(file, "a", (handle) => append(handle, text));
      // Its name too: a file lost with the power is an empty one.
      if (!named) synced(dirname(file), "r");
      named = true;
    } catch (cause) {
      throw new Fault("storage", file, { expected: "to be written", got: `${cause}`, cause });
    }
  };
}

/** A full disk may take the first bytes of a write and say so by their number alone. */
function writeWhole(handle: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const written = writeSync(handle, bytes, at);
    if (written === 0) throw new Error("no byte was written");
    at += written;
  }
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
