import type { Link } from "@tutti/client-sdk/link";
import { connect } from "@tutti/client-sdk/node/grpc";
import { uploadParts } from "@tutti/client-sdk/upload";
import { asFault, type Fault } from "@tutti/foundation/fault";
import { seededRandom } from "@tutti/foundation/random";
import { parsePlan } from "@tutti/plan/plan";
import { activeLayout, scaleOf, termsOf } from "@tutti/round/spec";
import { quantise } from "@tutti/update/quantise";
import { EnrollRequestSchema, HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type Invite, ListenRequestSchema, ReadyRequestSchema } from "@tutti/wire/round";
import { Puppet } from "./puppet.ts";
import type { Messages, Sent, Stage } from "./sent.ts";
import type { Papers, World } from "./world.ts";

/** What a malicious device makes of its own honest message; it may also wait, as long as it likes. */
export type Tamper = { readonly [S in Stage]?: (message: Messages[S]) => Messages[S] | Promise<Messages[S]> };

type Where = { readonly world: World; readonly address: string; readonly ledger: string };

/** A malicious device on the real wire: enrolled, signing its requests, and honest but where it tampers. */
export class Rogue {
  readonly name: string;
  readonly link: Link;
  readonly #puppet: Puppet;
  readonly #tamper: Tamper;
  readonly #answers = new Map<Stage, Fault | null>();
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  #listening: Promise<void> = Promise.resolve();

  constructor(papers: Papers, { world, address, ledger }: Where, tamper: Tamper) {
    this.name = papers.name;
    const tls = world.federation.tls.certificate;
    this.link = connect({ address, tls, name: papers.name, key: papers.key });
    this.#puppet = new Puppet(papers, { authority: world.authority.publicKey, ledger });
    this.#tamper = tamper;
  }

  async start(): Promise<void> {
    const { certificate } = this.#puppet.papers;
    await this.link.enroll(create(EnrollRequestSchema, { certificate }));
    await this.link.hello(create(HelloRequestSchema));
    this.#listening = this.#listen().catch(() => {});
  }

  /** What the coordinator said to its message of a stage: a Fault, or null for an acknowledgement. */
  async answered(stage: Stage): Promise<Fault | null> {
    while (!this.#answers.has(stage)) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    return this.#answers.get(stage)!;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.link.close();
    await this.#listening;
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stop;
    for await (const { word } of this.link.listen(create(ListenRequestSchema), signal)) {
      if (word.case === "invite") await this.#ready(word.value);
      else if (word.case !== "idle") {
        const { sent } = await this.#puppet.ask(word);
        for (const one of sent) await this.#send(one);
      }
    }
  }

  /** A vector of nothing, which is a good one: what is wrong with it is for the scenario to say. */
  async #ready({ plan: envelope, task, attempt }: Invite): Promise<void> {
    const plan = parsePlan(envelope!.payload);
    const spec = { plan, task: task!, attempt };
    const scale = scaleOf(plan);
    const update = new Float32Array(activeLayout(spec).length);
    const still = { update, weight: 1, metrics: scale.metrics.map(() => 0) };
    this.#puppet.begin(termsOf(spec), quantise(still, scale, seededRandom(1)));
    const { run, round } = task!;
    await this.link.ready(create(ReadyRequestSchema, { run, round, attempt }));
  }

  async #send(one: Sent): Promise<void> {
    const change = this.#tamper[one.stage] as ((message: unknown) => unknown) | undefined;
    const message = (await change?.(one.message)) ?? one.message;
    const answer = await this.#call({ ...one, message } as Sent).then(
      () => null,
      (error: unknown) => asFault(error),
    );
    this.#answers.set(one.stage, answer);
    for (const go of this.#waiting) go();
    this.#waiting.clear();
  }

  async #call(one: Sent): Promise<unknown> {
    switch (one.stage) {
      case "advertise":
        return await this.link.advertise(one.message);
      case "pick":
        return await this.link.pick(one.message);
      case "share":
        return await this.link.share(one.message);
      case "upload":
        return await this.link.upload(uploadParts(one.message.header.session, one.message.packed));
      case "attest":
        return await this.link.attest(one.message);
      case "reveal":
        return await this.link.reveal(one.message);
    }
  }
}
