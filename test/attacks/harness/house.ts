import { join as path } from "node:path";
import { Device } from "@tutti/client-sdk/node/device";
import { connectService } from "@tutti/client-sdk/node/grpc";
import { join } from "@tutti/client-sdk/node/join";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { joinFileText } from "@tutti/identity/join";
import { signPlan } from "@tutti/release/plan";
import {
  Admin,
  RevokeRequestSchema,
  RunRequestSchema,
  type RunStatus,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { type AdminLink, putArtifact } from "tutti/owner";
import { cloudsAt, smallRun } from "../../../claims/support/round/recipe.ts";
import { type Outcome, outcomeOf } from "../scenario.ts";
import { Rogue, type Tamper } from "./rogue.ts";
import { engine } from "./victim.ts";
import { closeWorld, joinFileFor, openWorld, papersFor, random, type World } from "./world.ts";

type Change = Partial<Parameters<typeof smallRun>[0]>;

/** Rows that an honest device holds out: their number is in a round's record. */
export const HELD_OUT = 8;
const ROWS = { train: 24, heldOut: HELD_OUT };
/** Short where a stage is waited out; nothing here asserts how long anything takes. */
const DEADLINES = { joinMs: 20_000, trainMs: 20_000, stageMs: 1_500 };

/** A real coordinator in this process, honest devices of the SDK, and malicious ones beside them. */
export class House {
  readonly world: World;
  readonly server: Server;
  readonly admin: AdminLink & { close(): void };
  readonly #devices: Device[] = [];
  readonly #rogues: Rogue[] = [];
  readonly #taking: Promise<unknown>[] = [];

  private constructor(world: World, server: Server) {
    this.world = world;
    this.server = server;
    const { tls, name, key } = world.owner;
    this.admin = connectService(Admin, { address: server.address, tls, name, key });
  }

  static async open(): Promise<House> {
    const world = await openWorld();
    return new House(world, await serveFederation({ folder: path(world.folder, "federation"), port: 0 }));
  }

  async honest(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      const folder = path(this.world.folder, name);
      await join({
        joinFile: joinFileText(joinFileFor(this.world, name, this.server.address)),
        folder,
        random,
      });
      const device = await Device.open({ folder, data: cloudsAt(name, ROWS), engine: await engine() });
      this.#devices.push(device);
      this.#taking.push(device.participate({ once: false }).catch(() => {}));
    }
  }

  async rogue(name: string, tamper: Tamper = {}): Promise<Rogue> {
    const where = { world: this.world, address: this.server.address };
    const ledger = path(this.world.folder, `${name}.log`);
    const rogue = new Rogue(papersFor(name, this.world.authority), { ...where, ledger }, tamper);
    this.#rogues.push(rogue);
    await rogue.start();
    return rogue;
  }

  /** Starts a run of one attempt for a cohort of exactly this many. */
  async begin(size: number, change: Change = {}): Promise<string> {
    const small = {
      name: "attacked",
      seed: 3,
      cohort: { min: 3, max: size },
      attempts: 1,
      deadlines: DEADLINES,
    };
    const { plan, base, initial } = smallRun({ ...small, ...change });
    await putArtifact(this.admin, base);
    await putArtifact(this.admin, initial);
    const signed = signPlan(plan, this.world.owner);
    return (await this.admin.startRun(create(StartRunRequestSchema, { plan: signed }))).run;
  }

  async revoke(device: string): Promise<void> {
    await this.admin.revoke(create(RevokeRequestSchema, { device }));
  }

  /** The first status that fits. */
  async until(run: string, fits: (status: RunStatus) => boolean): Promise<RunStatus> {
    const stop = new AbortController();
    try {
      for await (const status of this.admin.watch(create(RunRequestSchema, { run }), stop.signal)) {
        if (fits(status)) return status;
      }
      throw new Error("the run was over before");
    } finally {
      stop.abort();
    }
  }

  /** When the round that is attacked has ended: with a release, or with the run. */
  async roundOver(run: string): Promise<RunStatus> {
    return await this.until(run, ({ state, round }) => state !== "running" || round > 0);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#devices, ...this.#rogues].map((one) => one.close()));
    await Promise.all(this.#taking);
    this.admin.close();
    await this.server.close();
    await closeWorld(this.world);
  }
}

/** An attack by a malicious device on a real coordinator. */
export function againstCoordinator(attack: (house: House) => Promise<Outcome>): () => Promise<Outcome> {
  return async () => {
    const house = await House.open();
    try {
      return await outcomeOf(() => attack(house));
    } finally {
      await house.close();
    }
  };
}
