import { Worker } from "node:worker_threads";
import { assert, unreachable } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import type { Lift } from "@tutti/secagg/server/lift";
import type { FromThread, ToThread } from "./messages.ts";
import type { Pieces } from "./pieces.ts";

/** Pieces a thread has at once: it goes on while the answer to the one before is under way. */
const AHEAD = 2;

type Task = {
  readonly pieces: Pieces;
  ended: boolean;
  resolve(partial: Uint32Array): void;
  reject(fault: Fault): void;
};

/** One worker thread; it holds the process open only while it works. */
export class Thread {
  readonly worker: Worker;
  #task: Task | null = null;
  #dead = false;

  constructor() {
    const worker = new Worker(new URL("./thread.mjs", import.meta.url), { execArgv: [], name: "unmask" });
    this.worker = worker;
    worker.unref();
    worker.on("message", (message: FromThread) => this.#heard(message));
    // Listened to for as long as it lives: an error that nobody hears would end the whole process.
    worker.on("error", (cause) => this.#die({ got: "an error", cause }));
    worker.on("messageerror", (cause) => this.#die({ got: "an unreadable message", cause }));
    worker.on("exit", (code) => this.#die({ got: `an exit with code ${code}` }));
  }

  get dead(): boolean {
    return this.#dead;
  }

  /**
   * What taking off the masks of the pieces it gets to leaves of `length` zeros.
   * @throws Fault("unavailable") when it dies meanwhile; what `liftMasks` throws.
   */
  run(pieces: Pieces, length: number): Promise<Uint32Array> {
    assert(this.#task === null && !this.#dead, "a thread does one thing at a time");
    return new Promise<Uint32Array>((resolve, reject) => {
      this.#task = { pieces, ended: false, resolve, reject };
      this.worker.ref();
      this.#post({ kind: "begin", length });
      for (let i = 0; i < AHEAD; i++) this.#next();
    }).finally(() => {
      this.#task = null;
      this.worker.unref();
    });
  }

  /** Ends it, whatever it does. */
  async end(fault: Fault): Promise<void> {
    this.#dead = true;
    this.#task?.reject(fault);
    await this.worker.terminate();
  }

  #heard(message: FromThread): void {
    const task = this.#task;
    if (task === null) return;
    switch (message.kind) {
      case "lifted":
        this.#next();
        break;
      case "partial":
        task.resolve(message.words);
        break;
      case "fault":
        task.reject(new Fault(message.code, message.message));
        break;
      default:
        unreachable(message);
    }
  }

  #next(): void {
    const task = this.#task;
    if (task === null || task.ended) return;
    const lifts = task.pieces();
    task.ended = lifts === null;
    if (lifts === null) this.#post({ kind: "end" });
    else this.#post({ kind: "lift", lifts }, secretsOf(lifts));
  }

  #post(message: ToThread, moved: ArrayBuffer[] = []): void {
    this.worker.postMessage(message, moved);
  }

  #die({ got, cause }: { got: string; cause?: unknown }): void {
    this.#dead = true;
    this.#task?.reject(new Fault("unavailable", "unmasking thread", { expected: "an answer", got, cause }));
  }
}

/** Moved to the thread, so that this side keeps none; the thread overwrites them. */
function secretsOf(lifts: readonly Lift[]): ArrayBuffer[] {
  return lifts.map((lift) => (lift.kind === "self" ? lift.key : lift.secret).buffer as ArrayBuffer);
}
