// Devices that skip training: node --import tsx devices.ts '<DevicesArgs as JSON>'. All that a secure sum
// takes is the SDK's own: TLS, signed requests, the session of Bonawitz et al. 2017 with its checks.

import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { connect } from "@tutti/client-sdk/node/grpc";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { memorySpending } from "@tutti/client-sdk/private";
import { openSession, type Session, type SessionOptions, type StageWord } from "@tutti/client-sdk/session";
import type { Site } from "@tutti/client-sdk/site";
import { memoryStore } from "@tutti/client-sdk/store";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { METRICS } from "@tutti/plan/metrics";
import { parsePlan } from "@tutti/plan/plan";
import { activeLayout, type RoundSpec, scaleOf, termsOf } from "@tutti/round/spec";
import { memoryLedger } from "@tutti/secagg/device/member";
import { quantise } from "@tutti/update/quantise";
import { create } from "@tutti/wire/message";
import { type Instruction, type Invite, ListenRequestSchema, ReadyRequestSchema } from "@tutti/wire/round";
import { asChild } from "../round/child.ts";

export type DevicesArgs = { readonly folders: readonly string[] };
export type DevicesSaid = { readonly kind: "connected"; readonly device: string };

const [args, say] = asChild<DevicesArgs, DevicesSaid, never>(() => {});
const verify = nativeVerify();

/** Says ready at once, then takes part in the sum with a random update. */
async function participate(folder: string): Promise<void> {
  const site = await openSite(folder);
  const { name } = site.identity;
  const signal = new AbortController().signal;
  const sums = new Sums(site);
  say({ kind: "connected", device: name });
  for await (const word of site.link.listen(create(ListenRequestSchema), signal)) {
    await sums.hear(word, signal).catch((error: Error) => console.error(`${name}: ${error.message}`));
  }
}

class Sums {
  readonly #site: Site;
  #work: Omit<SessionOptions, "site"> | null = null;
  #session: Session | null = null;
  readonly #words = new Map<number, Uint32Array>();

  constructor(site: Site) {
    this.#site = site;
  }

  async hear({ word }: Instruction, signal: AbortSignal): Promise<void> {
    switch (word.case) {
      case "invite":
        return await this.#invited(word.value, signal);
      case "openSession":
        this.#session?.close();
        this.#session = openSession({ ...this.#work!, site: this.#site });
        return void (await this.#session.open(word.value.terms!).send(this.#site.link, signal));
      case "roster":
      case "picks":
      case "delivery":
      case "survivors":
      case "attestations":
        return await this.#stage(word, signal);
    }
  }

  /** The same update in every round, in the plan's grid. */
  #wordsFor(work: Pick<RoundSpec, "plan" | "task">): Uint32Array {
    const { length } = activeLayout(work);
    const before = this.#words.get(length);
    if (before) return before;
    const random = seededRandom(this.#site.identity.name);
    const update = Float32Array.from({ length }, () => random.normal() * 1e-3);
    const vector = { update, weight: 1, metrics: METRICS.map(() => 1) };
    const words = quantise(vector, scaleOf(work.plan), random);
    this.#words.set(length, words);
    return words;
  }

  async #stage(word: StageWord, signal: AbortSignal): Promise<void> {
    const answer = await this.#session!.hear(word);
    await answer.send(this.#site.link, signal);
  }

  async #invited({ plan, task, attempt }: Invite, signal: AbortSignal): Promise<void> {
    const work = { plan: parsePlan(plan!.payload), task: task!, attempt };
    this.#work = { own: termsOf(work), cohort: work.plan.cohort, words: this.#wordsFor(work) };
    const said = { run: task!.run, round: task!.round, attempt };
    await this.#site.link.ready(create(ReadyRequestSchema, said), signal);
  }
}

/** Only what a sum needs: no rows, no engine, no model. */
async function openSite(folder: string): Promise<Site> {
  const config = await readConfig(folder);
  const identity = await readIdentity(folder, config);
  const clock = systemClock();
  const none = () => {
    throw new Error("a device without training has none");
  };
  return {
    identity,
    policy: await readPolicy(folder),
    data: none,
    folder: "",
    link: connect({ ...config, key: identity.key, clock }),
    store: memoryStore(),
    engine: none,
    runtime: { open: none },
    clock,
    jitter: seededRandom("claims"),
    secret: platformRandom(),
    ledger: memoryLedger(),
    spending: memorySpending(),
    verify,
    agree: nativeAgree,
    emit: () => {},
  };
}

await Promise.all(args.folders.map(participate));
