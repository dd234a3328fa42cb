/** C0, DEL and C1; what turns the direction of text; line separators; halves of a pair. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;
const INSTEAD = "\ufffd";

/**
 * A line that another party wrote, fit to be shown: it moves no cursor, colours nothing, ends no line and
 * turns no direction. At most so many UTF-16 units.
 */
export function printable(text: string, most = Number.POSITIVE_INFINITY): string {
  return text.slice(0, most).replace(UNPRINTABLE, INSTEAD);
}

/** The same for text of several lines. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (/[\n\t]/.test(character) ? character : INSTEAD));
}

/** JSON of the same value, in characters that a terminal shows. */
export function printableJson(json: string): string {
  return json.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The text, or its beginning with a sign that something is missing. */
export function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const end = text.slice(0, most - 1);
  // Half a pair is no character.
  return `${/[\ud800-\udbff]$/.test(end) ? end.slice(0, -1) : end}…`;
}
