/**
 * Which of some names a misspelt one was probably meant to be: at most a third of it, and one letter at
 * least, is changed, added, left out, or swapped with its neighbour.
 */
export function nearest(written: string, names: readonly string[]): string | undefined {
  const word = written.slice(0, MAX_CHARS).toLowerCase();
  let best: { name: string; distance: number } | undefined;
  for (const name of names) {
    const distance = distanceOf(word, name.slice(0, MAX_CHARS).toLowerCase());
    if (distance <= Math.max(1, word.length / 3) && distance < (best?.distance ?? Infinity))
      best = { name, distance };
  }
  return best?.name;
}

/** The table is quadratic in it. */
const MAX_CHARS = 64;

/** Optimal string alignment: Levenshtein's distance with swaps of neighbours. */
function distanceOf(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= a.length; i++) {
    const [above, row] = [rows[i - 1]!, [i]];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + same);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j]!, rows[i - 2]![j - 2]! + 1);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}
