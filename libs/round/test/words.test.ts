import { expect, test } from "vitest";
import { wordTo } from "../src/words.ts";
import { PAPERS, Stage } from "./stage.ts";
import { familiar, gather } from "./story.ts";

const ABCD = ["a", "b", "c", "d"];

test("a word is one object while it is the word, whatever others do: it is encoded once", async () => {
  const stage = new Stage(familiar(ABCD));
  gather(stage, ABCD);
  const heard: string[] = [];
  const over = () => stage.round.phase === "unmasking";
  while (!over()) {
    const words = ABCD.map((device) => wordTo(device, stage.round, PAPERS)!);
    heard.push(words[0]!.word.case!);
    // All but one answer, and it still hears the very same; the last is told what the first was.
    for (const device of ABCD.slice(1)) {
      await stage.answer(device);
      if (over()) break;
      expect(wordTo("a", stage.round, PAPERS)).toBe(words[0]);
    }
    if (words[0]!.word.case !== "delivery") expect(new Set(words).size).toBe(1);
    await stage.answer("a");
  }
  expect(heard).toEqual(["invite", "openSession", "roster", "delivery", "survivors", "attestations"]);
});
