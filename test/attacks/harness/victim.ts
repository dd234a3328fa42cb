import { readFile, writeFile } from "node:fs/promises";
import { join as path } from "node:path";
import type { Data } from "@tutti/client-sdk/examples";
import { Device } from "@tutti/client-sdk/node/device";
import { nodeEngine } from "@tutti/client-sdk/node/engine";
import { FILES, readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { join } from "@tutti/client-sdk/node/join";
import { openFolderStore } from "@tutti/client-sdk/node/store";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { type Policy, parsePolicy, policyText } from "@tutti/client-sdk/policy";
import type { Site } from "@tutti/client-sdk/site";
import { systemClock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { joinFileText } from "@tutti/identity/join";
import { create } from "@tutti/wire/message";
import { type Invite, OpenSessionSchema } from "@tutti/wire/round";
import { cloudsAt } from "../../../claims/support/round/recipe.ts";
import { truthOf } from "../../../claims/support/round/truth.ts";
import { Refused } from "../scenario.ts";
import type { Attacker } from "./attacker.ts";
import type { Actor, Answer, Sent, Word } from "./sent.ts";
import { joinFileFor, random } from "./world.ts";

/** Rows of the device under attack: what a round's metrics would betray of it. */
const ROWS = { train: 37, heldOut: 11 };
let victims = 0;

/** A real device in a folder of its own, over real gRPC, and all that it says of refusals. */
export class Victim implements Actor {
  readonly name: string;
  readonly folder: string;
  readonly faults: Fault[] = [];
  readonly #attacker: Attacker;
  #device: Device | null = null;
  #taking: Promise<unknown> = Promise.resolve();
  #told: () => void = () => {};

  private constructor(name: string, attacker: Attacker) {
    this.name = name;
    this.folder = path(attacker.world.folder, `${name}-${victims++}`);
    this.#attacker = attacker;
  }

  static async open(
    attacker: Attacker,
    { name = "victim", policy = {} }: { name?: string; policy?: Partial<Policy> } = {},
  ): Promise<Victim> {
    const victim = new Victim(name, attacker);
    const joinFile = joinFileText(joinFileFor(attacker.world, name, attacker.address));
    await join({ joinFile, folder: victim.folder, random });
    const file = path(victim.folder, FILES.policy);
    const written = parsePolicy(await readFile(file, "utf8"));
    await writeFile(file, policyText({ ...written, ...policy }));
    await victim.start();
    return victim;
  }

  /** Begins, or begins again from its folder. */
  async start(): Promise<void> {
    this.#device = await Device.open({
      folder: this.folder,
      data: this.data,
      engine: await engine(),
      events: (event) => {
        if (event.kind !== "refused") return;
        this.faults.push(event.because);
        this.#told();
      },
    });
    this.#taking = this.#device.participate({ once: false }).catch(() => {});
  }

  /**
   * Says a word, and then one that every device refuses by name: words are answered in turn, so when that
   * refusal comes, everything that the first word brought about has come.
   */
  async ask(word: Word): Promise<Answer> {
    const heard = this.#attacker.heard.length;
    const before = this.faults.length;
    this.#attacker.say(this.name, word);
    this.#attacker.say(this.name, { case: "openSession", value: create(OpenSessionSchema) });
    while (!this.faults.slice(before).some(isSentinel)) {
      await new Promise<void>((resolve) => {
        this.#told = resolve;
      });
    }
    const faults = this.faults.slice(before).filter((fault) => !isSentinel(fault));
    const sent = this.#attacker.heard.slice(heard).filter(({ device }) => device === this.name);
    return { sent: sent.filter(({ stage }) => stage !== "ready" && stage !== "decline") as Sent[], faults };
  }

  /** Invites and waits for the training to be done. @throws Refused when it is declined. */
  async train(invite: Invite): Promise<void> {
    const from = this.#attacker.heard.length;
    this.#attacker.say(this.name, { case: "invite", value: invite });
    const { stage } = await this.#attacker.until(() =>
      this.#attacker.heard
        .slice(from)
        .find(({ device, stage }) => device === this.name && (stage === "ready" || stage === "decline")),
    );
    if (stage === "ready") return;
    throw new Refused(this.faults.at(-1) ?? new Fault("refused", "invitation"));
  }

  /** What its words of this round are; no attacker can ask for this. */
  async words(invite: Invite): Promise<Uint32Array> {
    const { files } = this.#attacker;
    const config = await readConfig(this.folder);
    const site = {
      identity: await readIdentity(this.folder, config),
      policy: await readPolicy(this.folder),
      data: this.data,
      folder: "",
      link: {
        async *fetch({ sha256 }: { sha256: Uint8Array }) {
          yield { data: files.get(Buffer.from(sha256).toString("hex")) };
        },
      },
      engine,
      clock: systemClock(),
      verify: nativeVerify(),
    };
    const store = await openFolderStore(path(this.folder, "truth"));
    return Uint32Array.from((await truthOf(invite, site as unknown as Site, store)).words);
  }

  async stop(): Promise<void> {
    await this.#device?.close();
    await this.#taking;
  }

  get data(): Data {
    return cloudsAt(this.name, ROWS);
  }
}

function isSentinel({ code, what, detail }: Fault): boolean {
  return code === "bad-message" && what === "session" && detail.got === "none";
}

let opened: ReturnType<typeof nodeEngine> | undefined;

/** One for the process: it holds no state of a device. */
export function engine() {
  opened ??= nodeEngine("onnxruntime");
  return opened;
}
