import { type ChildProcess, fork } from "node:child_process";
import { createWriteStream } from "node:fs";

/** How a process ended: its exit code, or the signal that ended it. */
export type Ending = { readonly code: number | null; readonly signal: string | null };

type Output = {
  readonly log: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** A command that becomes Node, with its arguments before Node's: what it is, its process stays. */
  readonly through?: readonly string[];
};

type Listener<Said> = (said: Said) => void;

/** A program, source or built, as a process; it and we speak over Node's channel, and its output is kept. */
export class Child<Said> {
  readonly said: Said[] = [];
  readonly ended: Promise<Ending>;
  readonly #process: ChildProcess;
  readonly #listeners = new Set<Listener<Said>>();

  /** Its output goes to a log; what is said of the environment is added to our own. */
  constructor(program: URL, args: unknown, to: string | Output) {
    const { log, environment = {}, through = [] } = typeof to === "string" ? { log: to } : to;
    const loader = program.pathname.endsWith(".ts") ? ["--import", "tsx"] : [];
    const [execPath = "", ...execArgv] = [...through, process.execPath, ...loader];
    this.#process = fork(program, [JSON.stringify(args)], {
      execPath,
      execArgv,
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    const out = createWriteStream(log, { flags: "a" });
    this.#process.stdout?.pipe(out, { end: false });
    this.#process.stderr?.pipe(out, { end: false });
    this.#process.on("message", (said) => {
      this.said.push(said as Said);
      for (const listener of this.#listeners) listener(said as Said);
    });
    // What it said last may still be in the channel when it is gone already.
    const drained = new Promise<void>((resolve) => this.#process.once("disconnect", resolve));
    this.ended = new Promise((resolve) => {
      this.#process.once("exit", (code, signal) => void drained.then(() => resolve({ code, signal })));
    });
  }

  /** Called with all that the process says from now on. */
  on(listener: Listener<Said>): void {
    this.#listeners.add(listener);
  }

  /** What fits among all it said or will say. @throws when the process ends before. */
  async until<Fitting extends Said>(fits: (said: Said) => said is Fitting): Promise<Fitting> {
    const before = this.said.find(fits);
    if (before !== undefined) return before;
    const later = new Promise<Fitting>((resolve) => {
      const listener = (said: Said) => {
        if (!fits(said)) return;
        this.#listeners.delete(listener);
        resolve(said);
      };
      this.on(listener);
    });
    const gone = this.ended.then(({ code, signal }) => {
      throw new Error(`a child process ended before it was ready: ${signal ?? `code ${code}`}`);
    });
    gone.catch(() => {});
    return await Promise.race([later, gone]);
  }

  /** To stop it or to look at it from outside. */
  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Whether the process has ended. */
  get over(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  signal(name: NodeJS.Signals): void {
    if (!this.over) this.#process.kill(name);
  }

  /** A word to a process that may just have ended. */
  tell(word: unknown): void {
    if (this.#process.connected) this.#process.send(word as object, () => {});
  }

  /** SIGKILL: nothing in the process runs after it. */
  async kill(): Promise<void> {
    if (!this.over) this.#process.kill("SIGKILL");
    await this.ended;
  }
}

/** What a program that `Child` started was given, and its way to speak; it ends when nobody listens. */
export function asChild<Args, Said, Told>(onWord: (word: Told) => void): [Args, (said: Said) => void] {
  process.on("message", onWord);
  process.on("disconnect", () => process.exit(0));
  const say = (said: Said) => void process.send?.(said as object, () => {});
  return [JSON.parse(process.argv[2] ?? "{}") as Args, say];
}

/** Ends this process here and now, as a power cut would. */
export function die(): Promise<never> {
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => {});
}
