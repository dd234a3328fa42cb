import { create, encode } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import type { Target } from "./attacks.ts";
import { Raw, signedHeader } from "./raw.ts";

/** A request as somebody may have captured it: all that went over the wire. */
type Captured = {
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array;
  readonly header: Record<string, string>;
};

/** Nothing in these is signed, so there is nothing to replay. */
const OPEN = new Set(["Hello", "Enroll"]);
/** Below what a connection may begin a second. */
const PAUSE_MS = 15;

/** Every signed request of a device, sent once; and again, byte for byte, in whatever phase a round is in. */
export class Replays {
  readonly #raw: Raw;
  readonly #captured: Captured[] = [];
  /** How often each was refused as a replay, by method and phase. */
  readonly refused = new Map<string, number>();
  /** What became of those that were not. */
  readonly taken: string[] = [];

  constructor({ port, tls }: Pick<Target, "port" | "tls">) {
    this.#raw = new Raw(port, tls);
  }

  /** Sends each for the first time; what becomes of it is no matter, but that its signature was good. */
  async capture({ signer }: Target): Promise<void> {
    for (const { name: method, input, ...rest } of Federation.methods) {
      if (OPEN.has(method)) continue;
      const path = pathOf({ name: method, input, ...rest });
      const body = encode(input, create(input));
      const header = signedHeader(path, body, signer);
      this.#captured.push({ method, path, body, header });
      const stream = this.#raw.open(path, header);
      stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, body.length]), body]));
      // A Listen goes on for as long as we are here.
      await new Promise((resolve) => setTimeout(resolve, 10 * PAUSE_MS));
    }
  }

  /** Replays until it is told to end: each time what was least often in the phase that the round is in. */
  async run(phaseNow: () => string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const phase = phaseNow();
      const times = ({ method }: Captured) => this.refused.get(`${method} in ${phase}`) ?? 0;
      const least = this.#captured.reduce((a, b) => (times(b) < times(a) ? b : a));
      const { fault } = await this.#raw.call(least.path, [least.body], least.header);
      const at = `${least.method} in ${phase}`;
      if (fault?.code === "refused" && fault.message.includes("a replay"))
        this.refused.set(at, times(least) + 1);
      else this.taken.push(`${at}: ${fault?.message ?? "answered"}`);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    this.#raw.close();
  }

  /** What was not replayed yet in some phase. */
  missing(phases: readonly string[]): string[] {
    const all = this.#captured.flatMap(({ method }) => phases.map((phase) => `${method} in ${phase}`));
    return all.filter((at) => !this.refused.has(at));
  }
}
