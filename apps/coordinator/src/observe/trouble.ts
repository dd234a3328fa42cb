import { Fault } from "@tutti/foundation/fault";
import type { Fields, Log } from "./log.ts";

/** Logs an error by what it means to whoever operates: storage that failed, or a bug of ours. */
export function logTrouble(log: Log, error: unknown, about: Fields): void {
  const known = error instanceof Fault && error.code !== "internal";
  log.say(known ? "storage.failed" : "bug", about, error);
}
