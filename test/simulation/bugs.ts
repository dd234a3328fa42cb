/** A mistake that somebody could make, as a change of source text that must occur exactly once. */
export type Bug = {
  readonly name: string;
  readonly what: string;
  readonly patches: readonly { readonly file: string; readonly find: string; readonly replace: string }[];
};

const DRIVE = "apps/coordinator/src/drive";

export const BUGS: readonly Bug[] = [
  {
    name: "early-ack",
    what: "an entry is acknowledged before its transaction is durable",
    patches: [
      {
        file: `${DRIVE}/driver.ts`,
        find: "        await this.options.store.append(",
        replace: `        for (const { settle } of accepted) settle.resolve();
        await this.options.store.append(`,
      },
    ],
  },
  {
    name: "added-twice",
    what: "a vector that comes again is added again",
    patches: [
      {
        file: "apps/coordinator/src/handlers/upload.ts",
        find: "      if (isIn(sum, device)) return",
        replace: "      if (isIn(sum, device) && bytes < 0) return",
      },
      {
        file: `${DRIVE}/batch.ts`,
        find: "      if (next === round) continue;\n",
        replace: `      if (next === round && item.upload) {
        const cohort = round.cohorts.findIndex(({ sum }) => sum.members.has(item.device));
        const again = [{ kind: "add-vector" as const, device: item.device, cohort }];
        changed = withVector(again, item, { changed, before: sums });
        entries.push(entry);
      }
      if (next === round) continue;
`,
      },
    ],
  },
  {
    name: "forgotten-sum",
    what: "the running sums are not taken up again after a crash",
    patches: [
      {
        file: `${DRIVE}/driver.ts`,
        find: "    this.#sums = sums;\n",
        replace: "    this.#sums = new Map();\n",
      },
    ],
  },
  {
    name: "no-deadline",
    what: "after a recovery nothing looks at the deadline until somebody says something",
    patches: [
      {
        file: `${DRIVE}/driver.ts`,
        find: "if (!this.#isShutDown) this.#deadline.arm(this.round);",
        replace: "if (!this.#isShutDown && !this.#recovered) this.#deadline.arm(this.round);",
      },
      {
        file: `${DRIVE}/driver.ts`,
        find: "  #isShutDown = false;\n",
        replace: "  #isShutDown = false;\n  #recovered = false;\n",
      },
      {
        file: `${DRIVE}/driver.ts`,
        find: '    this.#say("", { case: "recovered", value: true });\n',
        replace: '    this.#recovered = true;\n    this.#say("", { case: "recovered", value: true });\n',
      },
    ],
  },
  {
    name: "below-threshold",
    what: "devices sign, and open, a sum of fewer survivors than they must",
    patches: [
      {
        file: "libs/secagg/src/device/attest.ts",
        find: "  demand(devices.length >= group.least,",
        replace: "  demand(devices.length > 0,",
      },
      {
        file: "libs/secagg/src/device/attest.ts",
        find: '  atLeast("survivors", member.floor.survivors, devices.length);\n',
        replace: "",
      },
      {
        file: "libs/round/src/cohorts.ts",
        find: "  if (count < min) return drop",
        replace: "  if (count < 1) return drop",
      },
      {
        file: "libs/secagg/src/server/advance.ts",
        find: "  if (came.length >= least) return next;",
        replace: "  if (came.length >= 2) return next;",
      },
    ],
  },
  {
    name: "wrong-session",
    what: "a vector that was masked for another session is taken",
    patches: [
      {
        file: "apps/coordinator/src/handlers/upload.ts",
        find: "  if (!equalBytes(header.session, sid))\n",
        replace: "  if (header.session.length !== sid.length)\n",
      },
    ],
  },
  {
    name: "header-not-synced",
    what: "a round is closed before its header is durable",
    patches: [
      {
        file: `${DRIVE}/run-store.ts`,
        find: "      await store.commit(run, {\n        header:",
        replace: "      void store.commit(run, {\n        header:",
      },
    ],
  },
  {
    name: "other-time",
    what: "a round that is taken up again counts certificates as of now, not as of its beginning",
    patches: [
      {
        file: `${DRIVE}/driver.ts`,
        find: "const nowS = first?.checkedAtS || ",
        replace: "const nowS = ",
      },
    ],
  },
  {
    name: "stale-ready",
    what: "a message about another attempt is taken for one about this",
    patches: [
      {
        file: "apps/coordinator/src/handlers/find.ts",
        find: "const now = spec && said.round === spec.task.round && said.attempt === spec.attempt;",
        replace: "const now = spec !== undefined;",
      },
    ],
  },
  {
    name: "never-gone",
    what: "nobody is told that a device is gone",
    patches: [
      {
        file: `${DRIVE}/presence.ts`,
        find: "    this.answering.delete(device);\n    this.#events.onGone(device);\n",
        replace: "    this.answering.delete(device);\n",
      },
    ],
  },
  {
    name: "two-sums",
    what: "a device forgets which rounds it has helped to open",
    patches: [
      {
        file: "libs/secagg/src/device/reveal.ts",
        find: "    state.member.ledger.add(state.terms.run, state.terms.round);\n",
        replace: "",
      },
    ],
  },
  {
    name: "late-twice",
    what: "an update that is in a round's sum is brought to the next one, too",
    patches: [
      {
        file: "apps/client-sdk/src/conversation.ts",
        find: "    if (uploads) work.given = true;\n",
        replace: "",
      },
    ],
  },
  {
    name: "late-in-full",
    what: "an update that comes late weighs as much as one in time",
    patches: [
      {
        file: "apps/client-sdk/src/work.ts",
        find: "  const late = accepted.task.round - begun.task.round;",
        replace: "  const late = 0 * (accepted.task.round - begun.task.round);",
      },
    ],
  },
  {
    name: "waits-for-all",
    what: "a round that has enough devices waits for those that still train",
    patches: [
      {
        file: "libs/round/src/train.ts",
        find: "  return training === 0 || (ready",
        replace: "  return training === 0 || (training < 0 && ready",
      },
    ],
  },
  {
    name: "left-behind",
    what: "a run that storage did not give back at the start is not taken up (found by a seed, and mended)",
    patches: [
      {
        file: `${DRIVE}/runs.ts`,
        find: "runs.filter(({ run }) => this.#withheld.has(run))",
        replace: 'runs.filter(({ run }) => this.#withheld.delete(run) && run === "")',
      },
    ],
  },
  {
    name: "older-release",
    what: "a round's parent is served however late `ready` got through (found by a seed, and mended)",
    patches: [
      {
        file: "apps/client-sdk/src/activate.ts",
        find: "  if (newest !== null && newest.release.version > version) return;\n",
        replace: "",
      },
    ],
  },
  {
    name: "answers-behind",
    what: "a device answers with the release before the one that its disk took (found by a seed, and mended)",
    patches: [
      {
        file: "apps/client-sdk/src/activate.ts",
        find: "  if (current === digest && answers === digest) return;\n",
        replace: "  if (current === digest && holder.loaded) return;\n",
      },
      {
        file: "apps/client-sdk/src/activate.ts",
        find: "  if (current !== answers) await loadModel(site, holder);\n",
        replace: "",
      },
    ],
  },
  {
    name: "clock-back",
    what: "a round counts certificates from before the release it begins from (found by a seed, and mended)",
    patches: [
      {
        file: `${DRIVE}/driver.ts`,
        find: "Math.max(trust.nowS, madeAtS(this.parent))",
        replace: "Math.max(trust.nowS, 0)",
      },
    ],
  },
  {
    name: "half-updated",
    what: "a device answers with a release before its disk holds it",
    patches: [
      {
        file: "apps/client-sdk/src/activate.ts",
        find: "  await site.store.activate(",
        replace: "  await holder.swap(running, { run, version, digest });\n  await site.store.activate(",
      },
    ],
  },
  {
    name: "still-in-it",
    what: "a device that is revoked stays in the rounds in progress",
    patches: [
      {
        file: `${DRIVE}/revoking.ts`,
        find: "const rounds = drivers().filter(({ round }) => round !== null);",
        replace: "const rounds = drivers().filter(({ round }) => round === null);",
      },
    ],
  },
  {
    name: "revoked-unheard",
    what: "a list of revocations that is durable though nobody heard so is not taken up (found, and mended)",
    patches: [
      {
        file: `${DRIVE}/revoking.ts`,
        find: "    const added = await this.#parts.notices.takeUpRevocations();\n",
        replace: "    const added: string[] = [];\n",
      },
    ],
  },
  {
    name: "unnoted",
    what: "the audit log does not tell of a round that was closed",
    patches: [
      {
        file: `${DRIVE}/run-store.ts`,
        find: "        note: noteOfClose(run, header, { release, by }),\n",
        replace: "",
      },
    ],
  },
  {
    name: "unremembered",
    what: "who gave a vector is not written down",
    patches: [
      {
        file: `${DRIVE}/run-store.ts`,
        find: "        ...(round && { took:",
        replace: "        ...(round && wallMs < 0 && { took:",
      },
    ],
  },
  {
    name: "same-attempt",
    what: "a run that is resumed opens the attempt again in which it was stopped",
    patches: [
      {
        file: "libs/round/src/run.ts",
        find: "(stopped ? 1 : 0)",
        replace: "0",
      },
    ],
  },
];
