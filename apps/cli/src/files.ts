import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { Fault } from "@tutti/foundation/fault";

export type Wanted = {
  /** What the file is, for messages: "model", "weights of a.onnx". */
  readonly what: string;
  /** Bytes that it must have at the least; a shorter one is refused unread. */
  readonly least?: number;
  readonly todo?: string | undefined;
};

/**
 * The bytes of a regular file. Others are refused before a byte is read: a read of a pipe may never end, and
 * no signal reaches a process inside one. Opened without waiting, since opening a pipe waits already.
 * @throws Fault("not-found") where there is none, Fault("refused") for what is no regular file, and
 * Fault("storage") where reading fails.
 */
export function readRegular(path: string, { what, least = 0, todo }: Wanted): Uint8Array {
  const fault = (code: "not-found" | "refused" | "storage" | "bad-input", got: string, cause?: unknown) =>
    new Fault(code, `${what} ${path}`, { expected: "a readable file", got, ...(todo && { todo }), cause });
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const found = fstatSync(file);
    if (!found.isFile()) throw fault("refused", found.isDirectory() ? "a folder" : "a pipe or a device");
    if (found.size < least) throw fault("bad-input", `${found.size} of at least ${least} bytes`);
    return new Uint8Array(readFileSync(file));
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    // What cannot be opened for want of the path is not there; a name no system takes neither.
    const absent = ["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE"].includes(code ?? "");
    throw fault(absent ? "not-found" : "storage", ioSaid(cause), cause);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** An error of the file system in plain words, where it is a common one. */
export function ioSaid(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  switch (code) {
    case "ENOENT":
      return "nothing there";
    case "ENOTDIR":
      return "a path through what is no folder";
    case "EACCES":
    case "EPERM":
      return "no permission";
    default:
      return message;
  }
}
