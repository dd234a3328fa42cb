import { create } from "@tutti/wire/message";
import { DeliverySchema, PickSchema, PicksSchema } from "@tutti/wire/secagg";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { publicKeyOf } from "../src/agree.ts";
import { mask } from "../src/device/mask.ts";
import { pick } from "../src/device/pick.ts";
import { share, sharePicked } from "../src/device/share.ts";
import { holdersOf, neighboursOf, pickedGraph, sharersOf } from "../src/graph.ts";
import { decodePlaces, drawPlaces, encodePlaces } from "../src/picks.ts";
import { receive, unmask } from "../src/server/session.ts";
import { pickStatement } from "../src/statement.ts";
import { close, during, names, type Play, plainSum, random, terms, upTo, wordAs } from "./federation.ts";

const N = 104;
const ALL = names(N);

/** A session as far as `stage`; its members are the same each time, the rest is fresh. */
const sparse = (stage: Parameters<typeof upTo>[0]) => upTo(stage, N);

describe("the sparse graph (Bell et al. 2020, Alg. 3), more than 100 members", () => {
  test("devices lost in any stage cost only themselves: it is the survivors' own, bit for bit", async () => {
    const play = await upTo("advertise", N);
    const here = (left: number) => ALL.slice(0, N - left);
    for (const [stage, left] of [
      ["advertise", 0],
      ["pick", 1],
      ["share", 3],
      ["mask", 5],
      ["attest", 7],
      ["reveal", 9],
    ] as const) {
      await during(play, stage, here(left));
      if (play.session.phase !== "complete") close(play);
    }
    expect(play.session.phase).toBe("complete");
    expect(play.session.survivors).toEqual(here(5));
    expect(await unmask(play.session, play.sum)).toEqual(plainSum(play, here(5)));
  }, 120_000);

  test("below the size its graph was found for it fails by name, and nobody is told to reveal", async () => {
    const play = await sparse("mask");
    await during(play, "mask", ALL.slice(0, N - 11));
    close(play);
    expect(play.session.phase).toBe("failed");
    expect(play.session.reason).toBe("below threshold: 93 of 104 devices uploaded, at least 94 must");
  }, 120_000);

  test("each device shares with its own picks alone, and masks along every edge of its own", async () => {
    const play = await sparse("mask");
    const { graph } = play.session.group!;
    expect(graph.degree).toBeLessThan(N);
    for (const name of ["d000", "d050", "d103"]) {
      const state = play.states.get(name)!;
      if (state.stage !== "shared") throw new Error("shared by now");
      expect(state.request.envelopes.map(({ to }) => to)).toEqual(holdersOf(graph, name));
      expect([...state.pairKeys.keys()].sort()).toEqual(neighboursOf(graph, name));
      expect(holdersOf(graph, name)).toHaveLength(graph.degree);
      for (const other of neighboursOf(graph, name)) expect(neighboursOf(graph, other)).toContain(name);
    }
  }, 120_000);

  describe("what a coordinator may try", () => {
    const picksWith = async (change: (picks: ReturnType<typeof picksOf>, play: Play) => void) => {
      const play = await sparse("share");
      const picks = picksOf(play);
      change(picks, play);
      const at = play.states.get("d000")!;
      return sharePicked(at, picks).then(
        () => "accepted",
        (error: Error) => error.message,
      );
    };
    const picksOf = (play: Play) => structuredClone(wordAs(play, "d000", "picks"));

    test("picks that this device or its neighbours did not sign", async () => {
      expect(
        await picksWith(({ picks }) => {
          picks[0]!.holders = encodePlaces(decodeFrom(picks[1]!.holders, 1).filter((at) => at !== 0));
        }),
      ).toContain("this device's own picks, got others");
      const forged = await picksWith(({ picks }, play) => {
        const near = neighboursOf(play.session.group!.graph, "d000")[0]!;
        picks[ALL.indexOf(near)]!.signature = random.bytes(64);
      });
      expect(forged).toContain("expected its signature, got another");
      expect(await picksWith(({ picks }) => picks.splice(0, 1))).toContain("own picks, got none");
    }, 120_000);

    test("keys in the roster that their member did not advertise: no neighbour of it shares", async () => {
      const play = await sparse("pick");
      const roster = structuredClone(wordAs(play, "d000", "roster"));
      const victim = roster.members[7]!;
      victim.maskKey = publicKeyOf(random.bytes(32));
      // It signs no such roster, and the attacker cannot in its place.
      expect(() => pick(play.states.get("d007")!, roster)).toThrow(
        "d007 in the roster: expected its own keys",
      );
      const { state, message } = pick(play.states.get("d000")!, roster);
      const { degree } = state.crew.size;
      const everyone = ALL.map((_, member) => {
        const others = ALL.map((_, at) => at).filter((at) => at !== member);
        if (member === 0) return { member, holders: message.holders, signature: message.signature };
        // All pick the same, d000 among them, so d007 is its neighbour.
        const holders = encodePlaces(others.slice(0, degree));
        const { key } = play.members.get(ALL[member]!)!;
        const statement = pickStatement(play.session.terms, { root: state.crew.root, holders });
        const signature = member === 7 ? random.bytes(64) : key.sign(statement);
        return { member, holders, signature };
      });
      const picks = everyone.map((one) => create(PickSchema, one));
      await expect(
        sharePicked(state, create(PicksSchema, { roster: state.crew.root, picks })),
      ).rejects.toThrow("picks of d007: expected its signature");
    }, 120_000);

    test("a roster with a member that no authority knows, though nobody picked it yet", async () => {
      const play = await sparse("pick");
      const roster = structuredClone(wordAs(play, "d000", "roster"));
      roster.members[7]!.certificate!.signature = random.bytes(64);
      expect(() => pick(play.states.get("d000")!, roster)).toThrow("certificate of d007");
    }, 120_000);

    test("members of another roster, in another order, twice, or too few for the graph", async () => {
      expect(await picksWith((picks) => void Object.assign(picks, { roster: random.bytes(32) }))).toContain(
        "picks from this device's roster",
      );
      expect(await picksWith(({ picks }) => picks.reverse())).toContain("each member once, ascending");
      expect(await picksWith(({ picks }) => picks.splice(4, 1, picks[3]!))).toContain("each member once");
      expect(await picksWith(({ picks }) => void Object.assign(picks.at(-1)!, { member: N }))).toContain(
        "members of the roster",
      );
      expect(await picksWith(({ picks }) => picks.splice(80))).toContain("at least 94, this device's floor");
    }, 120_000);

    test("another list of senders than the envelopes say, or one without this device", async () => {
      const play = await sparse("mask");
      const delivery = wordAs(play, "d000", "delivery");
      const { graph } = play.session.group!;
      const sharer = sharersOf(graph, "d000")[0]!;
      const trying = (change: { senders?: string[]; envelopes?: typeof delivery.envelopes }) => () =>
        mask(
          play.states.get("d000")!,
          create(DeliverySchema, { ...delivery, ...change }),
          play.inputs.get("d000")!,
        );
      expect(trying({ senders: ALL.filter((name) => name !== sharer) })).toThrow("listed or sent, not both");
      expect(trying({ envelopes: delivery.envelopes.filter(({ from }) => from !== sharer) })).toThrow(
        "listed or sent, not both",
      );
      expect(trying({ senders: ALL.slice(1) })).toThrow("this device among them");
      expect(trying({ senders: [...ALL, "d999"] })).toThrow("members, got a stranger");
      expect(trying({ senders: [...ALL].reverse() })).toThrow("ascending");
    }, 120_000);

    test("a roster to pick from is none to share with, and the other way round", async () => {
      const play = await sparse("pick");
      const roster = wordAs(play, "d000", "roster");
      await expect(share(play.states.get("d000")!, roster)).rejects.toThrow("at most 100 members, or picks");
      const small = await upTo("share", 5);
      expect(() => pick(small.states.get("d00")!, wordAs(small, "d00", "roster"))).toThrow("to pick from");
      const none = create(PicksSchema, { roster: random.bytes(32) });
      await expect(sharePicked(small.states.get("d00")!, none)).rejects.toThrow("that has picked");
      const fewer = { ...structuredClone(roster), degree: 2, threshold: 2 };
      expect(() => pick(play.states.get("d000")!, fewer)).toThrow("threshold: expected");
    }, 120_000);

    test("a weaker graph than the device's floor allows", async () => {
      const play = await upTo("pick", N, terms());
      const state = play.states.get("d000")!;
      const wary = { ...state, member: { ...state.member, floor: { ...state.member.floor, corrupt: 200 } } };
      expect(() => pick(wary, wordAs(play, "d000", "roster"))).toThrow(
        "corrupt members per 1000: expected at least 200, this device's floor, got 100",
      );
    }, 120_000);
  });

  describe("what a device may try", () => {
    test("a list too short, of itself, of strangers, unsigned, for another roster, or a second", async () => {
      const play = await upTo("pick", N);
      const { message } = pick(play.states.get("d001")!, wordAs(play, "d001", "roster"));
      const trying = (change: object) => () =>
        receive(play.session, "d001", { stage: "pick", request: { ...message, ...change } });
      const { degree } = play.session.crew!.size;
      const places = decodePlaces("own", message.holders, { k: degree, n: N, own: 1 });
      expect(trying({ holders: message.holders.slice(2) })).toThrow("places of two bytes");
      expect(trying({ holders: encodePlaces(places.map((_, at) => at)) })).toThrow("places of other members");
      expect(trying({ holders: encodePlaces([...places.slice(1), N]) })).toThrow("places of other members");
      expect(trying({ holders: encodePlaces(places.toReversed()) })).toThrow("ascending");
      expect(trying({ signature: random.bytes(64) })).toThrow("expected its signature");
      expect(trying({ roster: random.bytes(32) })).toThrow("picks from this roster");
      const picked = receive(play.session, "d001", { stage: "pick", request: message });
      expect(receive(picked, "d001", { stage: "pick", request: structuredClone(message) })).toBe(picked);
      const other = { ...message, signature: random.bytes(64) };
      expect(() => receive(picked, "d001", { stage: "pick", request: other })).toThrow("what it sent before");
    }, 120_000);
  });
});

describe("picks", () => {
  test("places are k others, ascending, and read back as they were", () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 300 }), fc.nat(), fc.nat(), (n, a, b) => {
        const [own, k] = [a % n, 1 + (b % (n - 1))];
        const places = drawPlaces(k, { n, own }, random);
        expect(new Set(places).size).toBe(k);
        expect(places.includes(own)).toBe(false);
        expect(decodePlaces("holders", encodePlaces(places), { k, n, own })).toEqual(places);
      }),
    );
  });

  test("every other member is picked equally often", () => {
    const [n, k, tries] = [12, 4, 6000];
    const counts = Array<number>(n).fill(0);
    for (let i = 0; i < tries; i++)
      for (const place of drawPlaces(k, { n, own: 5 }, random)) counts[place]!++;
    expect(counts[5]).toBe(0);
    // Eight standard deviations of a binomial: a fair draw leaves them once in 10^14.
    const expected = (tries * k) / (n - 1);
    const bound = 8 * Math.sqrt(expected * (1 - k / (n - 1)));
    for (const [place, count] of counts.entries())
      if (place !== 5) expect(Math.abs(count - expected)).toBeLessThan(bound);
  });

  test("of a member that everybody picks, 4k picks count: the same at both ends, chosen by the root", () => {
    const members = names(60);
    const [victim, ...others] = members as [string, ...string[]];
    const picks = new Map<string, string[]>([[victim, others.slice(0, 2)]]);
    for (const name of others) picks.set(name, [victim, others.find((other) => other !== name)!]);
    const graph = (root: number) =>
      pickedGraph(picks, { degree: 2, threshold: 2, root: new Uint8Array(32).fill(root) });
    const one = graph(1);
    expect(sharersOf(one, victim)).toHaveLength(8);
    for (const name of others)
      expect(holdersOf(one, name).includes(victim)).toBe(sharersOf(one, victim).includes(name));
    expect(sharersOf(graph(2), victim)).not.toEqual(sharersOf(one, victim));
    expect(graph(1)).toEqual(one);
  });
});

function decodeFrom(bytes: Uint8Array, own: number): number[] {
  return decodePlaces("holders", bytes, { k: bytes.length / 2, n: N, own });
}
