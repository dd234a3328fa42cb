import { asFault } from "@tutti/foundation/fault";
import { packBits, unpackBits } from "@tutti/kernels/pack";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema } from "@tutti/wire/round";
import { againstCoordinator, HELD_OUT, type House } from "../harness/house.ts";
import type { Rogue, Tamper } from "../harness/rogue.ts";
import type { Stage } from "../harness/sent.ts";
import { random } from "../harness/world.ts";
import { type Outcome, patch, refused, type Scenario, without, worked } from "../scenario.ts";

const RECEIVE = "libs/secagg/src/server/receive.ts";
const UPLOAD = "apps/coordinator/src/handlers/upload.ts";

/** A round without a sum, or with a wrong one: which of them is chance. */
const SPOILT = "the round has no right sum";

/** Two honest devices and one that tampers with its message of one stage: what becomes of the round. */
async function told(house: House, stage: Stage, tamper: Tamper): Promise<Outcome> {
  await house.honest("ann", "bob");
  // First by name: devices look at no more signatures than they need.
  const rogue = await house.rogue("abe", tamper);
  const run = await house.begin(3);
  return await said(house, { run, rogue, stage });
}

type Asked = { readonly run: string; readonly rogue: Rogue; readonly stage: Stage };

/** The refusal; or, of what was acknowledged, the harm that it does to a round of two honest devices. */
async function said(house: House, { run, rogue, stage }: Asked): Promise<Outcome> {
  const fault = await rogue.answered(stage);
  if (fault) return refused(fault);
  const { state, history } = await house.roundOver(run);
  if (state === "failed" || history[0]!.examples !== 2 * HELD_OUT) return worked(`taken, and ${SPOILT}`);
  return { kind: "broken", why: `the ${stage} did no harm` };
}

/** Uploads when the survivors are sealed: two SDK devices are in, and one that waits with its signature. */
async function late(house: House): Promise<Outcome> {
  await house.honest("ann", "bob");
  let run = "";
  const sealed = () => house.until(run, ({ phase }) => phase === "attesting");
  const rogue: Rogue = await house.rogue("eve", {
    upload: async (message) => {
      await sealed();
      return message;
    },
  });
  await house.rogue("slow", {
    attest: async (message) => {
      await rogue.answered("upload");
      return message;
    },
  });
  run = await house.begin(4);
  return await said(house, { run, rogue, stage: "upload" });
}

/** One word far outside the grid, in a cohort with room for more devices than are in it. */
async function outside(house: House): Promise<Outcome> {
  await house.honest("ann", "bob");
  await house.rogue("eve", { upload: shifted });
  const run = await house.begin(10, { deadlines: { joinMs: 20_000, trainMs: 20_000, stageMs: 1500 } });
  const { state, reason } = await house.roundOver(run);
  if (state === "failed") return refused(`the round fails: ${reason}`);
  return worked("a release was made of a sum that no honest devices have");
}

/** Revoked while it listens: it is in no cohort that is formed after, and nobody answers it. */
async function revoked(house: House): Promise<Outcome> {
  await house.honest("ann", "bob", "cat");
  const rogue = await house.rogue("eve");
  await house.revoke("eve");
  const { state, reason, history } = await house.roundOver(await house.begin(4));
  if (state === "failed") return { kind: "broken", why: `the round failed: ${reason}` };
  const { survivors } = history[0]!;
  const asked = rogue.link.checkIn(create(CheckInRequestSchema));
  const fault = await asked.then(() => null, asFault);
  if (fault === null || survivors > 3) return worked(`answered, and one of ${survivors} in the sum`);
  return refused(fault);
}

const BITS = 24;

/** Adds five times the largest step of one device to the first word. */
const shifted: NonNullable<Tamper["upload"]> = ({ header, packed }) => {
  const length = Math.floor((8 * packed.length) / BITS);
  const words = unpackBits(packed, BITS, length);
  const most = Math.floor((Math.floor(2 ** BITS / 10) - 1) / 2);
  words[0] = (words[0]! + 4 * most) & (2 ** BITS - 1);
  return { header, packed: packBits(words, BITS) };
};

/** Noise for everybody, where one share is to spare: the sum is right, and the operator reads who it was. */
async function lie(house: House): Promise<Outcome> {
  const lines: string[] = [];
  const { stderr } = process;
  const write = stderr.write.bind(stderr);
  stderr.write = (line) => lines.push(`${line}`) > 0;
  try {
    return await outvoted(house, lines);
  } finally {
    stderr.write = write;
  }
}

async function outvoted(house: House, lines: readonly string[]): Promise<Outcome> {
  await house.honest("bob", "cat", "dan");
  await house.rogue("ann", {
    reveal: (message) => ({
      ...message,
      shares: message.shares.map(({ of, share, ...rest }) => {
        const value = share.value!.map((byte, at) => (at < 32 ? byte ^ 0x55 : byte));
        return { ...rest, of, share: { ...share, value } as typeof share };
      }),
    }),
  });
  const { state, history } = await house.roundOver(await house.begin(4));
  if (state === "failed" || history[0]!.examples !== 3 * HELD_OUT) return worked(SPOILT);
  const named = lines.find((line) => line.includes("revealed by ann"));
  if (!named) return { kind: "broken", why: "the liar is not named" };
  const { code, error } = JSON.parse(named) as { code: string; error: string };
  return refused(`${code}: ${error}; the sum is right`);
}

export const DEVICES: readonly Scenario[] = [
  {
    row: 3,
    name: "a device that was revoked, and goes on",
    harness: "device",
    mutations: [
      without(
        "no request of a revoked device is taken, and it is out of what goes on",
        patch(
          "apps/coordinator/src/registry/registry.ts",
          'if (device.revoked) return { ...party, denied: denied(name, "revoked") };',
          "",
        ),
        patch(
          "apps/coordinator/src/drive/revoking.ts",
          "await this.#dismissed(device);\n    failpoint",
          "failpoint",
        ),
      ),
    ],
    run: againstCoordinator(revoked),
  },
  {
    row: 7,
    name: "a vector masked for another session",
    harness: "device",
    mutations: [
      without(
        "an upload names the session in progress",
        patch(UPLOAD, "if (!equalBytes(header.session, sid))", "if (false)"),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "upload", {
        upload: ({ header, packed }) => ({
          header: { ...header, session: random.bytes(32) },
          packed: random.bytes(packed.length),
        }),
      }),
    ),
  },
  {
    row: 7,
    name: "shares dealt in another session",
    harness: "device",
    mutations: [
      without(
        "shares name the session in progress",
        patch(RECEIVE, "checkSession(what, request.session, sid);\n  checkBytes(", "checkBytes("),
        patch(
          "apps/coordinator/src/handlers/find.ts",
          ".find(({ round }) => round?.cohorts.some(({ sum }) => isFor(sum, session)));",
          ".find(({ round }) => round !== null);",
        ),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "share", {
        share: (message) => ({
          ...message,
          session: random.bytes(32),
          envelopes: message.envelopes.map((each) => ({ ...each, sealed: random.bytes(each.sealed.length) })),
        }),
      }),
    ),
  },
  {
    row: 7,
    name: "an attestation given in another session",
    harness: "device",
    mutations: [
      without(
        "the coordinator checks each attestation's signature",
        patch(
          RECEIVE,
          'demand(good, () => new Fault("refused", what, { expected: "its signature on the sets"',
          'demand(true, () => new Fault("refused", what, { expected: "its signature on the sets"',
        ),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "attest", { attest: (message) => ({ ...message, signature: random.bytes(64) }) }),
    ),
  },
  {
    row: 8,
    name: "a vector after the survivors are sealed",
    harness: "device",
    mutations: [
      without(
        "vectors are taken in their stage only",
        patch(RECEIVE, 'mustBe(session, ["masking"], what);', ""),
        patch(
          "apps/coordinator/src/handlers/upload.ts",
          'if (!dropped && stageOf(sum) === "masking") return null;',
          "return null;",
        ),
      ),
    ],
    run: againstCoordinator(late),
  },
  {
    row: 11,
    name: "a word outside the grid",
    harness: "device",
    mutations: [
      without(
        "a sum lies where sums of so many devices can, and its mean is no longer than an update may be",
        patch(
          "libs/update/src/quantise.ts",
          "if (Math.abs(value) <= devices * b) return value;",
          "return value;",
        ),
        patch(
          "libs/strategy/src/combine.ts",
          "if (norm <= (clipNorm + slack) * (1 + 2 ** -23)) return mean;",
          "return mean;",
        ),
      ),
    ],
    run: againstCoordinator(outside),
  },
  {
    row: 13,
    name: "false shares revealed for everybody",
    harness: "device",
    mutations: [
      without(
        "secrets are held against what their owners published",
        patch(
          "libs/secagg/src/shares.ts",
          "if (!secret || !good(secret)) continue;",
          "if (!secret) continue;",
        ),
      ),
    ],
    run: againstCoordinator(lie),
  },
  {
    row: 13,
    name: "shares for all members but one",
    harness: "device",
    mutations: [
      without(
        "an envelope for every holder",
        patch(RECEIVE, "demand(to.size === holders.size,", "demand(true,"),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "share", { share: (message) => ({ ...message, envelopes: message.envelopes.slice(1) }) }),
    ),
  },
  {
    row: 13,
    name: "shares swapped: two envelopes in each other's names",
    harness: "device",
    mutations: [
      without(
        "a device deals in its own name",
        patch(RECEIVE, "demand(envelope.from === device,", "demand(true,"),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "share", {
        share: (message) => ({
          ...message,
          envelopes: message.envelopes.map((each, at) => (at === 0 ? { ...each, from: "ann" } : each)),
        }),
      }),
    ),
  },
  {
    row: 13,
    name: "an envelope too long for the others' words to travel",
    harness: "device",
    mutations: [
      without(
        "a bound on each envelope, sealed and as it travels",
        patch(RECEIVE, "demand(bytes <= MAX_SEALED_BYTES,", "demand(true,"),
        patch(RECEIVE, "encoded <= MAX_ENVELOPE_BYTES,", "true,"),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "share", {
        share: (message) => ({
          ...message,
          envelopes: message.envelopes.map((each) => ({ ...each, sealed: random.bytes(8192) })),
        }),
      }),
    ),
  },
  {
    row: 15,
    name: "a vector shorter than the others'",
    harness: "device",
    mutations: [
      without(
        "a vector has every word: by its header, and by what comes",
        patch(UPLOAD, "demand(header.packedBytes === bytes,", "demand(true,"),
        patch(UPLOAD, "demand(received === packed.length,", "demand(true,"),
      ),
    ],
    run: againstCoordinator((house) =>
      told(house, "upload", {
        upload: ({ header, packed }) => ({ header, packed: packed.subarray(0, packed.length - 30) }),
      }),
    ),
  },
];
