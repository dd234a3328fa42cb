import type { RunStatus } from "@tutti/wire/admin";
import { roundLine } from "tutti/status";

const WIDTH = 24;

/**
 * Shows a run as it goes: a line for each finished round, and under them, on a terminal, one bar per site
 * that is drawn over itself. Where there is no terminal the bars are left out.
 */
export class Screen {
  readonly #live: boolean;
  readonly #out: NodeJS.WriteStream;
  #bars = 0;
  #rounds = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#live = out.isTTY === true;
  }

  say(line: string): void {
    this.#clear();
    this.#out.write(`${line}\n`);
  }

  show(status: RunStatus): void {
    this.#clear();
    for (const record of status.history.slice(Math.max(0, this.#rounds - status.earlier)))
      this.#out.write(`  ${roundLine(record, status.rounds)}\n`);
    this.#rounds = status.earlier + status.history.length;
    if (!this.#live || status.state !== "running") return;
    const phase = `round ${status.round}/${status.rounds} ${status.phase}`;
    const lines = [phase, ...status.devices.map(bar)];
    this.#out.write(lines.map((line) => `  ${line}\n`).join(""));
    this.#bars = lines.length;
  }

  #clear(): void {
    if (this.#bars > 0) this.#out.write(`\x1b[${this.#bars}A\x1b[0J`);
    this.#bars = 0;
  }
}

function bar({ device, connected, activity, progress }: RunStatus["devices"][number]): string {
  const full = Math.round(progress * WIDTH);
  const state = connected ? activity || "waiting" : "away";
  return `${device.padEnd(10)} ${"█".repeat(full)}${"░".repeat(WIDTH - full)} ${state}`;
}
