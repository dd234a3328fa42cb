/** What a file may ask of us before we allocate anything (docs/reliability.md, Files from outside). */
export type Limits = {
  /** Bytes of the model file. */
  readonly modelBytes: number;
  /** Elements of one tensor. */
  readonly elements: number;
  readonly rank: number;
  readonly nodes: number;
  /** Depth of graphs inside graphs. */
  readonly depth: number;
};

/** Protobuf itself ends at 2 GiB; larger models keep their weights outside the file. */
export const LIMITS: Limits = {
  modelBytes: 2 ** 31 - 1,
  elements: 2 ** 31 - 1,
  rank: 32,
  nodes: 200_000,
  depth: 8,
};
