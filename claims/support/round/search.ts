/** Bytes that are looked for: whose they are, what they say, and in which encoding. */
export type Needle = {
  readonly site: string;
  readonly what: string;
  readonly bytes: Uint8Array;
  /** Digits that stand alone, not within a longer number or a hash. */
  readonly alone?: boolean;
};

/** Which needles occur anywhere in the haystacks, each once. Every byte offset is tried. */
export function search(needles: readonly Needle[], haystacks: readonly Uint8Array[]): Needle[] {
  const found = new Set<Needle>();
  for (const [length, group] of groupBy(needles, ({ bytes }) => bytes.length)) {
    const wanted = groupBy(group, ({ bytes }) => text(bytes));
    const starts = new Set(group.map(({ bytes }) => (bytes[0]! << 8) | bytes[1]!));
    for (const haystack of haystacks) {
      const whole = text(haystack);
      for (let at = 0; at + length <= haystack.length; at++) {
        if (!starts.has((haystack[at]! << 8) | haystack[at + 1]!)) continue;
        for (const needle of wanted.get(whole.slice(at, at + length)) ?? []) {
          if (!needle.alone || standsAlone(whole, at, length)) found.add(needle);
        }
      }
    }
  }
  return needles.filter((needle) => found.has(needle));
}

function groupBy<Key>(needles: readonly Needle[], key: (needle: Needle) => Key): Map<Key, Needle[]> {
  const groups = new Map<Key, Needle[]>();
  for (const needle of needles) {
    const group = groups.get(key(needle));
    if (group) group.push(needle);
    else groups.set(key(needle), [needle]);
  }
  return groups;
}

function standsAlone(whole: string, at: number, length: number): boolean {
  return !/[\w.]/.test(whole[at - 1] ?? "") && !/\w/.test(whole[at + length] ?? "");
}

/** A character per byte, so that slices of bytes can be looked up. */
function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** How many needles uniform bytes would hold by chance: offsets times 256^-length, summed. */
export function expectedByChance(needles: readonly Needle[], haystacks: readonly Uint8Array[]): number {
  const offsets = haystacks.reduce((sum, { length }) => sum + length, 0);
  return needles.reduce((sum, { bytes }) => sum + offsets * 256 ** -bytes.length, 0);
}
