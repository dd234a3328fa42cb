import type { SeededRandom } from "@tutti/foundation/random";

/** Bytes that are nearly those of a message: one to four of the things that go wrong, or are made to. */
export function mutated(bytes: Uint8Array, dice: SeededRandom): Uint8Array {
  let all = [...bytes.subarray(0, MOST)];
  for (let times = 1 + dice.below(4); times > 0; times--)
    all = MUTATIONS[dice.below(MUTATIONS.length)]!(all, dice);
  return Uint8Array.from(all);
}

const MOST = 4_096;

type Mutation = (bytes: number[], dice: SeededRandom) => number[];
const at = (bytes: readonly number[], dice: SeededRandom) => dice.below(bytes.length + 1);

const MUTATIONS: readonly Mutation[] = [
  // A bit.
  (bytes, dice) =>
    bytes.map((byte, i, { length }) => (i === dice.below(length) ? byte ^ (1 << dice.below(8)) : byte)),
  // A byte of the kind that lengths and tags are made of.
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 1, [0, 0x7f, 0x80, 0xff][dice.below(4)]!),
  // Cut off.
  (bytes, dice) => bytes.slice(0, at(bytes, dice)),
  // A piece again, elsewhere.
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 0, ...bytes.slice(at(bytes, dice)).slice(0, 64)),
  // A piece gone.
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 1 + dice.below(16)),
  // A length, or a number, that is far too large.
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 1, 0xff, 0xff, 0xff, 0xff, 0x0f),
  // A field that nobody knows, and a group, which nobody uses any more.
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 0, 0xfa, 0x3f, 0x02, 1, 2),
  (bytes, dice) => bytes.toSpliced(at(bytes, dice), 0, 0x0b),
  // Something else altogether.
  (_bytes, dice) => Array.from({ length: dice.below(200) }, () => dice.below(256)),
];
