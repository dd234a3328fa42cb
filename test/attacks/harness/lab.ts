import { join } from "node:path";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import type { Signer } from "@tutti/release/dsse";
import { releaseOf, signRelease } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { firstHeader, taskOf } from "@tutti/round/run";
import { termsOf } from "@tutti/round/spec";
import { create } from "@tutti/wire/message";
import { type Invite, InviteSchema } from "@tutti/wire/round";
import type { Terms } from "@tutti/wire/secagg";
import type { PreparedRun } from "tutti/prepare";
import { smallRun } from "../../../claims/support/round/recipe.ts";
import { endings, type Outcome, outcomeOf, worked } from "../scenario.ts";
import { Attacker } from "./attacker.ts";
import { Attempt, equalWords } from "./attempt.ts";
import { Corrupt } from "./corrupt.ts";
import { Puppet } from "./puppet.ts";
import type { Actor } from "./sent.ts";
import { Victim } from "./victim.ts";
import { closeWorld, openWorld, papersFor, random, type World } from "./world.ts";

/** Everybody in an attack by the coordinator: one real device, scripted honest ones, and its accomplices. */
export class Lab {
  readonly world: World;
  readonly attacker: Attacker;
  readonly victim: Victim;
  readonly prepared: PreparedRun;
  puppets: Puppet[] = [];
  corrupt: Corrupt[] = [];

  constructor(world: World, parts: { attacker: Attacker; victim: Victim; prepared: PreparedRun }) {
    this.world = world;
    this.attacker = parts.attacker;
    this.victim = parts.victim;
    this.prepared = parts.prepared;
  }

  get plan(): Plan {
    return this.prepared.plan;
  }

  /** Scripted honest devices, enrolled in the same federation. */
  honest(...names: readonly string[]): Puppet[] {
    const { authority, folder } = this.world;
    this.puppets = names.map((name) => {
      const ledger = join(folder, `ledger-${puppets++}.log`);
      return new Puppet(papersFor(name, authority), { authority: authority.publicKey, ledger });
    });
    return this.puppets;
  }

  /** Devices that joined like any other, and are the attacker's. */
  bought(...names: readonly string[]): Corrupt[] {
    this.corrupt = names.map((name) => new Corrupt(papersFor(name, this.world.authority)));
    return this.corrupt;
  }

  /** An invitation to a round, as an honest coordinator would sign it; each call makes another release. */
  invite({ round = 0, plan = this.plan, owner = this.world.owner as Signer } = {}): Invite {
    const { coordinator } = this.world.federation;
    const envelope = signPlan(plan, owner);
    const run = sha256Hex(envelope.payload);
    const before = round === 0 ? null : sha256Hex(new Uint8Array(1));
    const made = {
      run,
      version: round,
      round,
      adapter: plan.initial,
      parent: before,
      cohorts: [],
      transcript: null,
    };
    const parent = signRelease(releaseOf(plan, { ...made, wallMs: Date.now() + releases++ }), coordinator);
    const manifest = sha256Hex(parent.payload);
    const header = firstHeader({ version: round, manifest, adapter: plan.initial.sha256 });
    const task = taskOf(run, plan, { ...header, round });
    return create(InviteSchema, { plan: envelope, task, parent, attempt: 0 });
  }

  /** The session that everyone is led to: invited, trained, asked for keys. Words stay through attempts. */
  async begin(invite = this.invite()): Promise<Attempt> {
    await this.victim.train(invite);
    const terms = this.terms(invite);
    for (const puppet of this.puppets) {
      puppet.begin(terms, puppet.words.length > 0 ? puppet.words : wordsFor(terms));
    }
    const attempt = new Attempt(terms, this.corrupt);
    for (const actor of this.actors) await attempt.advertise(actor);
    return attempt;
  }

  terms(invite: Invite): Terms {
    return termsOf({ plan: this.plan, task: invite.task!, attempt: invite.attempt });
  }

  /** The one under attack first: its refusal ends the attack before anyone else is asked. */
  get actors(): Actor[] {
    return [this.victim, ...this.puppets];
  }

  get names(): string[] {
    return [...this.actors, ...this.corrupt].map(({ name }) => name).sort();
  }

  /** Whether these are the device's own words, which it gives to nobody. */
  async isVictims(words: Uint32Array, invite = this.invite()): Promise<boolean> {
    return equalWords(words, await this.victim.words(invite));
  }

  /** The outcome of an attack that says it has the victim's vector. */
  async bared(words: Uint32Array, how: string): Promise<Outcome> {
    if (await this.isVictims(words))
      return worked(`${how}: all ${words.length} words of the device's vector`);
    return { kind: "broken", why: `${how}: other words than the device's` };
  }
}

/** A vector that says nothing: where one is needed beside the victim's. */
function wordsFor({ bits, length }: Terms): Uint32Array {
  const bytes = random.bytes(4 * length);
  return new Uint32Array(bytes.buffer, bytes.byteOffset, length).map((word) => word >>> (32 - bits));
}

let world: Promise<World> | undefined;

/** One federation for all attacks of a process. */
export async function theWorld(): Promise<World> {
  world ??= openWorld();
  endings.add(endWorld);
  return await world;
}

async function endWorld(): Promise<void> {
  if (world) await closeWorld(await world);
  world = undefined;
}

/** A cohort may be this large: no attack here needs more. */
const COHORT = { min: 3, max: 10 };
let runs = 0;
let releases = 0;
let puppets = 0;

/** An attack by a malicious coordinator on one real device. */
export function againstDevice(
  attack: (lab: Lab) => Promise<Outcome>,
  change: Partial<Parameters<typeof smallRun>[0]> = {},
): () => Promise<Outcome> {
  return async () => {
    const world = await theWorld();
    const attacker = await Attacker.open(world);
    const recipe = { name: `attack-${runs++}`, seed: 7, cohort: COHORT, ...change };
    const prepared = smallRun(recipe);
    attacker.files.set(prepared.plan.base.sha256, prepared.base);
    attacker.files.set(prepared.plan.initial.sha256, prepared.initial);
    const victim = await Victim.open(attacker);
    try {
      return await outcomeOf(() => attack(new Lab(world, { attacker, victim, prepared })));
    } finally {
      await victim.stop();
      await attacker.close();
    }
  };
}
