import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { sha256 } from "@tutti/foundation/hash";
import { PutPartSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";

export const TUTTI = fileURLToPath(new URL("../../apps/cli/bin/tutti.mjs", import.meta.url));

/** A `tutti serve` process, as a supervisor has it. */
export type Serving = {
  readonly child: ChildProcess;
  readonly result: { readonly address: string; readonly operationsPort: number; readonly role: string };
  /** Exit code and signal. */
  readonly ended: Promise<readonly [number | null, string | null]>;
  /** The events that it logged. */
  events(): string[];
};

/** Processes that a test started; whoever is left is killed at its end. */
export class Supervisor {
  readonly #children = new Set<ChildProcess>();
  readonly #program: string;

  constructor(program = TUTTI) {
    this.#program = program;
  }

  async serve(federation: string): Promise<Serving> {
    const child = spawn(process.execPath, [this.#program, "--json", "serve", federation]);
    this.#children.add(child);
    let said = "";
    child.stderr.on("data", (chunk) => {
      said += chunk;
    });
    const ended = new Promise<readonly [number | null, string | null]>((resolve) =>
      child.once("exit", (...how) => resolve(how)),
    );
    const first = await Promise.race([
      new Promise<string>((resolve) => child.stdout.once("data", (line) => resolve(`${line}`))),
      ended.then((how) => Promise.reject(new Error(`tutti serve ended with ${how}: ${said}`))),
    ]);
    const events = () => said.split("\n").flatMap((line) => (line ? [JSON.parse(line).event as string] : []));
    return { child, result: JSON.parse(first), ended, events };
  }

  killAll(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    this.#children.clear();
  }
}

/** An upload in one chunk. */
export async function* parts(bytes: Uint8Array) {
  const header = { sha256: sha256(bytes), totalBytes: bytes.length };
  yield create(PutPartSchema, { part: { case: "header", value: header } });
  yield create(PutPartSchema, { part: { case: "chunk", value: bytes } });
}
