import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** `tutti` from its sources. */
export const TUTTI = fileURLToPath(new URL("../../../apps/cli/bin/tutti.mjs", import.meta.url));

/**
 * `tutti …` as processes of their own; everything they print goes to a log file each, and they all end
 * together.
 */
export class Processes {
  readonly #program: string;
  readonly #logs: string;
  readonly #signal: AbortSignal;
  readonly #running = new Set<ChildProcess>();

  constructor(program: string, { logs, signal }: { logs: string; signal: AbortSignal }) {
    this.#program = program;
    this.#logs = logs;
    this.#signal = signal;
    signal.addEventListener("abort", () => void this.stop(), { once: true });
  }

  /** Starts a command and resolves with its first line of output, parsed as JSON. */
  async start(name: string, args: readonly string[]): Promise<Record<string, unknown>> {
    const child = this.#spawn(name, args);
    return new Promise((resolve, reject) => {
      createInterface({ input: child.stdout! }).once("line", (line) =>
        resolve(JSON.parse(line) as Record<string, unknown>),
      );
      child.once("exit", (code) =>
        reject(new Error(`tutti ${args[0]} ended with code ${code}; see ${this.#log(name)}`)),
      );
    });
  }

  /** Runs a command to its end. */
  async run(name: string, args: readonly string[]): Promise<void> {
    const child = this.#spawn(name, args);
    child.stdout?.resume();
    const code = await new Promise((resolve) => child.once("exit", resolve));
    if (code !== 0) throw new Error(`tutti ${args[0]} ended with code ${code}; see ${this.#log(name)}`);
  }

  /** Ends everything that was started: politely, then after a second not. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running].map((child) => end(child)));
  }

  #log(name: string): string {
    return join(this.#logs, `${name}.log`);
  }

  #spawn(name: string, args: readonly string[]): ChildProcess {
    this.#signal.throwIfAborted();
    const child = spawn(process.execPath, [this.#program, "--json", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#running.add(child);
    child.once("exit", () => this.#running.delete(child));
    const log = createWriteStream(this.#log(name), { flags: "a" });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    return child;
  }
}

async function end(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), 1000);
  await gone;
  clearTimeout(late);
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
