/** One number, or one family of them, that README or docs quote; `npm run -s claim -- <name>` prints it. */
export type Claim = {
  readonly name: string;
  /** What must hold, in words. */
  readonly target: string;
  /** Measures. `report` takes lines of progress; figures are what the last line shows. */
  run(
    report: (line: string) => void,
  ): Promise<{ figures: Readonly<Record<string, unknown>>; holds: boolean }>;
};
