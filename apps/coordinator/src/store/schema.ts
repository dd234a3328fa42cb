import type { Generated } from "kysely";

/** One row type per table of migrations; the same on every engine. */
export type Schema = {
  devices: {
    name: string;
    serial: Uint8Array;
    certificate: Uint8Array;
    revoked: Generated<number>;
    added_ms: number;
    site: Generated<string>;
  };
  renewals: { name: string; request: Uint8Array; asked_ms: number; granted: Uint8Array | null };
  statements: { kind: string; version: number; envelope: Uint8Array };
  runs: {
    run: string;
    name: string;
    plan: Uint8Array;
    state: string;
    header: Uint8Array;
    added_ms: number;
  };
  journal: { run: string; seq: number; entry: Uint8Array; epoch: Generated<number> };
  sums: { run: string; cohort: number; at: number; words: Uint8Array };
  releases: {
    run: string;
    version: number;
    digest: string;
    envelope: Uint8Array;
    epoch: Generated<number>;
  };
  participations: { run: string; device: string; rounds: number; last_round: number; last_ms: number };
  history: { run: string; at: number; record: Uint8Array };
  files: { run: string; sha256: string; kind: "adapter" | "evidence"; round: number };
  lease: {
    id: number;
    epoch: number;
    holder: string;
    address: string;
    renewals: number;
    until_ms: number;
  };
  epochs: { epoch: number; holder: string; address: string; since_ms: number };
  audit: { seq: number; line: string };
  audit_head: { id: number; entries: number; hash: string };
};

/** Every table, those that others refer to first, with its key: what a backup copies, and in which order. */
export const TABLES: { readonly [Table in keyof Schema]: readonly (keyof Schema[Table] & string)[] } = {
  devices: ["name"],
  renewals: ["name"],
  statements: ["kind"],
  runs: ["run"],
  journal: ["run", "seq"],
  sums: ["run", "cohort", "at"],
  releases: ["run", "version"],
  participations: ["run", "device"],
  history: ["run", "at"],
  files: ["run", "sha256"],
  lease: ["id"],
  epochs: ["epoch"],
  audit: ["seq"],
  audit_head: ["id"],
};
