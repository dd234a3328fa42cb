import { batchOf, type Lift, streamsOf } from "@tutti/secagg/server/lift";

/** Of what is left, what one thread takes at a time: a quarter of its even part. */
const SHARE = 4;

/** Cuts lifts into pieces, each with secrets in buffers of its own; null when all are handed out. */
export type Pieces = () => Lift[] | null;

/**
 * Pieces that shrink as less is left, down to what one walk over the vector takes off: few messages at
 * first, and no thread waits long for another at the end (guided self-scheduling, Polychronopoulos and Kuck
 * 1987). One device's pairs may be cut too, since the largest neighbourhood would else be the last to end.
 */
export function piecesOf(
  lifts: readonly Lift[],
  { threads, length }: { threads: number; length: number },
): Pieces {
  let left = lifts.reduce((total, lift) => total + streamsOf(lift), 0);
  let [at, from] = [0, 0];
  return () => {
    let room = Math.max(batchOf(length), Math.ceil(left / (SHARE * threads)));
    const piece: Lift[] = [];
    while (room > 0 && at < lifts.length) {
      const part = partOf(lifts[at]!, from, room);
      const streams = streamsOf(part);
      if (streams > 0) piece.push(part);
      room -= streams;
      left -= streams;
      from += streams;
      if (from === streamsOf(lifts[at]!)) [at, from] = [at + 1, 0];
    }
    return piece.length === 0 ? null : piece;
  };
}

/**
 * At most `most` streams of a lift. Copies, since a message carries all of the buffer that bytes are a view
 * of.
 */
function partOf(lift: Lift, from: number, most: number): Lift {
  if (lift.kind === "self") return { ...lift, key: lift.key.slice() };
  const neighbours = lift.neighbours.slice(from, from + most).map(({ name, maskKey }) => {
    return { name, maskKey: maskKey.slice() };
  });
  return { ...lift, secret: lift.secret.slice(), sid: lift.sid.slice(), neighbours };
}
