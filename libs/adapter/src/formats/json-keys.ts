/**
 * A key that stands twice in one object of a JSON text that already parses; JSON.parse keeps the last
 * silently.
 */
export function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < json.length; at++) {
    const char = json[at];
    if (char === "{") open.push(new Set());
    else if (char === "[") open.push(null);
    else if (char === "}" || char === "]") open.pop();
    else if (char === '"') {
      const end = closingQuote(json, at);
      const keys = open.at(-1);
      if (keys && isKey(json, end)) {
        // Parsed, so that an escape cannot hide a twin: "\u0061" is "a".
        const key = JSON.parse(json.slice(at, end + 1)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end;
    }
  }
  return undefined;
}

function closingQuote(json: string, open: number): number {
  let at = open + 1;
  while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at;
}

/** Whether the string that closes at `end` is followed by a colon. */
function isKey(json: string, end: number): boolean {
  let at = end + 1;
  while (/\s/.test(json[at] ?? "x")) at++;
  return json[at] === ":";
}
