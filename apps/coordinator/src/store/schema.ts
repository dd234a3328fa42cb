import type { Generated } from "kysely";

/** One row type per table of migrations; the same on every engine. */
export type Schema = {
  devices: {
    name: string;
    serial: Uint8Array;
    certificate: Uint8Array;
    revoked: Generated<number>;
    added_ms: number;
  };
  runs: {
    run: string;
    name: string;
    plan: Uint8Array;
    state: string;
    header: Uint8Array;
    added_ms: number;
  };
  journal: { run: string; seq: number; entry: Uint8Array };
  sums: { run: string; cohort: number; words: Uint8Array };
  releases: { run: string; version: number; digest: string; envelope: Uint8Array };
};
