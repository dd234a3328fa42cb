import { parentPort } from "node:worker_threads";
import { assert } from "@tutti/foundation/check";
import { asFault } from "@tutti/foundation/fault";
import { liftMasks, wipeLifts } from "@tutti/secagg/server/lift";
import { nativeAgree } from "../native.ts";
import type { FromThread, ToThread } from "./messages.ts";

assert(parentPort !== null, "this file is what a thread runs");
const port = parentPort;

let partial = new Uint32Array(0);
let before: Promise<void> = Promise.resolve();

// One message after the other: a piece may come while the one before is being worked on.
port.on("message", (message: ToThread) => {
  before = before.then(() => perform(message)).catch(tell);
});

async function perform(message: ToThread): Promise<void> {
  switch (message.kind) {
    case "begin":
      partial = new Uint32Array(message.length);
      break;
    case "lift":
      try {
        await liftMasks(partial, message.lifts, { agree: nativeAgree });
      } finally {
        wipeLifts(message.lifts);
      }
      post({ kind: "lifted" });
      break;
    case "end": {
      const words = partial;
      partial = new Uint32Array(0);
      post({ kind: "partial", words }, [words.buffer]);
      break;
    }
  }
}

function post(message: FromThread, moved: ArrayBuffer[] = []): void {
  port.postMessage(message, moved);
}

function tell(error: unknown): void {
  const { code, message } = asFault(error);
  post({ kind: "fault", code, message });
}
