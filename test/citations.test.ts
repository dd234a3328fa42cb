import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT, sources } from "./tidy/sources.ts";

/** A page of this repository, not ONNX's, and behind a comma its heading: docs/protocol.md, The vector. */
const CITATION = /(?<![\w./-]|ONNX, )((?:docs\/[\w/-]+|[A-Z]{4,})\.md)(?:, ([^`]{1,80}))?/g;

const files = ["libs", "apps", "examples", "claims", "test"].flatMap(sources);

describe("what a comment cites is in this repository", () => {
  test("pages exist, and so does what is named of them", () => {
    let cited = 0;
    const wrong = files.flatMap(({ path, text }) =>
      [...prose(text).matchAll(CITATION)].flatMap(([whole, page, place]) => {
        cited++;
        if (!existsSync(join(ROOT, page!))) return [`${path}: no ${page}`];
        return place === undefined || resolves(page!, place) ? [] : [`${path}: ${whole}`];
      }),
    );
    expect(wrong).toEqual([]);
    expect(cited).toBeGreaterThan(40);
  });

  test("a place that is not on the page is found out", () => {
    expect(resolves("docs/protocol.md", "The vector). More text")).toBe(true);
    expect(resolves("docs/reliability.md", "promise 1: acknowledged")).toBe(true);
    expect(resolves("docs/reliability.md", "promise 9: unheard of")).toBe(false);
    expect(resolves("docs/protocol.md", "The vectors of another house")).toBe(false);
  });
});

/** Comments over several lines as one line. */
function prose(text: string): string {
  return text.replace(/\n\s*(?:\*|\/\/)(?!\/) ?/g, " ").replace(/\s+/g, " ");
}

const anchors = new Map<string, readonly string[]>();

/** Headings, words in bold that begin a paragraph, and numbered promises and attacks. */
function anchorsOf(page: string): readonly string[] {
  const known = anchors.get(page);
  if (known) return known;
  const text = readFileSync(join(ROOT, page), "utf8");
  const all = (pattern: RegExp) => [...text.matchAll(pattern)].map((match) => match[1]!);
  const found = [
    ...all(/^#+ (.+)$/gm),
    ...all(/^\*\*([^*]+?)[.,]?\*\*/gm),
    ...all(/^(\d+)\. \*\*/gm).map((number) => `promise ${number}`),
    ...all(/^## (\d+): /gm).map((number) => `attack ${number}`),
  ];
  anchors.set(page, found);
  return found;
}

function resolves(page: string, place: string): boolean {
  return anchorsOf(page).some(
    (anchor) => place.startsWith(anchor) && !/^\w/.test(place.slice(anchor.length)),
  );
}
