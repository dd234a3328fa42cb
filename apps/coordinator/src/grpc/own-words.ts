import { setLogger } from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";

/** The beginning of what it says, before any value. */
const WORDS = /^[A-Za-z]+(?: [A-Za-z]+){0,3}(?![\w-])/;

/**
 * Hears what grpc-js says by itself, which would go to stderr between our lines, with what a peer sent in it.
 * It has one logger in a process: whoever asks last hears.
 */
export function hearGrpc(onBug: (error: unknown, path: string) => void): void {
  setLogger({
    error: (text?: unknown) => onBug(saidByGrpc(`${text}`), "grpc-js"),
    // Asked for by its environment variables only, and full of values.
    info: () => {},
    debug: () => {},
  });
}

/** No value of it: those are a peer's. */
export function saidByGrpc(text: string): Fault {
  return new Fault("internal", "grpc-js", { got: WORDS.exec(text)?.[0] ?? "a message" });
}
