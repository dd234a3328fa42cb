import { expect } from "vitest";
import { Stage, type StageOptions } from "./stage.ts";

/**
 * Rounds as transcripts: each story is played by the pure machine and real device code, and what was said is
 * compared with a file in stories/. To rewrite the files after a change that is meant:
 *   npx vitest run libs/round/test -u
 * and read the diff.
 */
export async function tell(
  name: string,
  story: (stage: Stage) => Promise<void> | void,
  options: StageOptions = {},
): Promise<Stage> {
  const stage = new Stage(options);
  await story(stage);
  await expect(stage.text()).toMatchFileSnapshot(`stories/${name}.txt`);
  expect(stage.replayed()).toEqual(stage.round);
  return stage;
}

/** Everyone comes and is invited. */
export function gather(stage: Stage, devices: readonly string[]): void {
  stage.come(...devices);
  if (stage.round.phase === "gathering") stage.wait(1_500);
}

/**
 * So many answers of everyone: once it is invited ready, keys, shares, vector, attestation, shares revealed.
 */
export async function answers(stage: Stage, devices: readonly string[], times: number): Promise<void> {
  for (let time = 0; time < times; time++) await stage.answer(...devices);
}

export const familiar = (devices: readonly string[]): StageOptions => ({ expected: devices });
