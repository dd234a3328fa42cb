import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { evaluate } from "@tutti/graph/evaluate/evaluate";
import { float32 } from "@tutti/graph/ir";
import { mlp } from "@tutti/graph/make/mlp";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { unpackBits } from "@tutti/kernels/pack";
import { addInto } from "@tutti/kernels/ring";
import { advertise } from "@tutti/secagg/device/advertise";
import { attest } from "@tutti/secagg/device/attest";
import { mask } from "@tutti/secagg/device/mask";
import { DEFAULT_FLOOR, type Member, memoryLedger } from "@tutti/secagg/device/member";
import { reveal } from "@tutti/secagg/device/reveal";
import { share } from "@tutti/secagg/device/share";
import type { DeviceState } from "@tutti/secagg/device/state";
import { advance, openSession, receive, unmask, wordFor } from "@tutti/secagg/server/session";
import { create } from "@tutti/wire/message";
import { TermsSchema } from "@tutti/wire/secagg";
import { type KernelWork, kernelWork } from "./kernel-work.ts";

export { kernelWork };

// What the browser test runs in a page and, for comparison, in Node. It imports no Node module.

/** What a page found out; all of it is compared with Node's or with the plain sum. */
export type Found = {
  readonly logits: readonly number[];
  readonly sum: readonly number[];
  readonly plain: readonly number[];
  readonly kernels: KernelWork;
  /** The same from a worker of the page. */
  readonly inWorker?: KernelWork;
};

const NOW_S = 1_800_000_000;
const BITS = 20;
const LENGTH = 300;

export async function findOut(): Promise<Found> {
  return { logits: logits(), kernels: kernelWork(), ...(await session(["a", "b", "c", "d"], "d")) };
}

/** A seeded perceptron's answer to seeded rows, by the slow evaluator: the same bits wherever it runs. */
function logits(): number[] {
  const random = seededRandom("browser");
  const graph = mlp({ inputs: 4, hidden: [8], outputs: 3, activation: "relu", random });
  const rows = Float32Array.from({ length: 20 }, () => Math.fround(random.uniform() * 2 - 1));
  const answer = evaluate(graph, new Map([[graph.inputs[0]!.name, float32([5, 4], rows)]]));
  return Array.from(answer.get(graph.outputs[0]!.name)!.data as Float32Array);
}

/** A whole secure session; `lost` sends its shares and is gone, so its masks have to be taken off. */
async function session(names: readonly string[], lost: string): Promise<Pick<Found, "sum" | "plain">> {
  const random = platformRandom();
  const authority = signingKey(newSeed(random));
  const trust = { authority: authority.publicKey, nowS: NOW_S };
  const hashes = { modelHash: new Uint8Array(32).fill(1), taskHash: new Uint8Array(32).fill(2) };
  const terms = create(TermsSchema, {
    run: "run",
    round: 0,
    attempt: 1,
    bits: BITS,
    length: LENGTH,
    ...hashes,
  });
  const states = new Map<string, DeviceState>();
  const [sum, plain] = [new Uint32Array(LENGTH), new Uint32Array(LENGTH)];
  const present = names.filter((name) => name !== lost);
  let server = openSession(terms, { ...trust, spareShares: 0 });

  /** The server's word to a device, which the stage knows the kind of. */
  const word = <Kind extends NonNullable<ReturnType<typeof wordFor>>["kind"]>(name: string, kind: Kind) => {
    const said = wordFor(server, name);
    if (said?.kind !== kind) throw new Error(`${name} was told ${said?.kind}, expected ${kind}`);
    return said.message as Extract<NonNullable<ReturnType<typeof wordFor>>, { kind: Kind }>["message"];
  };

  for (const name of names) {
    const { state, message } = advertise(terms, member(name));
    states.set(name, state);
    server = receive(server, name, { stage: "advertise", advertisement: message });
  }
  server = advance(server);
  for (const name of names) {
    const { state, message } = await share(states.get(name)!, word(name, "roster"));
    states.set(name, state);
    server = receive(server, name, { stage: "share", request: message });
  }
  server = advance(server);
  for (const [i, name] of present.entries()) {
    const words = Uint32Array.from({ length: LENGTH }, (_, at) => at * 7 + i);
    const { state, packed } = mask(states.get(name)!, word(name, "delivery"), words);
    states.set(name, state);
    server = receive(server, name, { stage: "upload" });
    addInto(sum, unpackBits(packed, BITS, LENGTH));
    addInto(plain, words);
  }
  server = advance(server);
  for (const name of present) {
    const { state, message } = attest(states.get(name)!, word(name, "survivors"));
    states.set(name, state);
    server = receive(server, name, { stage: "attest", request: message });
  }
  server = advance(server);
  for (const name of present) {
    const { message } = reveal(states.get(name)!, word(name, "attestations"));
    server = receive(server, name, { stage: "reveal", request: message });
  }
  return { sum: Array.from(await unmask(server, sum)), plain: Array.from(plain) };

  function member(name: string): Member {
    const [token, key] = [signingKey(newSeed(random)), signingKey(newSeed(random))];
    const validity = { notBeforeS: NOW_S - 10, notAfterS: NOW_S + 1000, serial: random.bytes(16) };
    const grant = issue(authority, { role: "device", name, publicKey: token.publicKey, ...validity });
    const certificate = bind(grant, token, key.publicKey);
    return { name, certificate, key, ...trust, floor: DEFAULT_FLOOR, random, ledger: memoryLedger() };
  }
}
