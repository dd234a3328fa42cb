import { X509Certificate } from "node:crypto";
import { CertificateBodySchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Federation } from "../folder/federation.ts";
import type { Cause } from "../grpc/turned.ts";

/** What is the case at the moment someone asks; counted when asked and at no other time. */
export type Levels = {
  readonly devices: Readonly<Record<"present" | "invited" | "ready", number>>;
  readonly runsRunning: number;
  /** Of the runs in progress. */
  readonly journalEntries: number;
  readonly held: Held;
  readonly stopping: boolean;
  /** "leader", or "standby" while another replica leads. */
  readonly role: string;
  readonly epoch: number;
  /** Seconds until each expires; negative for one that did. */
  readonly certificates: Readonly<Record<string, number>>;
};

/** Who holds the port's connections, and how often who was turned away. */
export type Held = {
  readonly connections: number;
  readonly newcomers: number;
  readonly calls: number;
  readonly turned: ReadonlyMap<Cause, number>;
};

const MAX_BODY_BYTES = 4096;

export function devicesOf(coordinator: Coordinator): Levels["devices"] {
  const rounds = coordinator.drivers().flatMap(({ round }) => (round ? [round] : []));
  const sum = (count: (round: (typeof rounds)[number]) => number) =>
    rounds.reduce((total, round) => total + count(round), 0);
  return {
    present: coordinator.presence.count,
    invited: sum(({ invited }) => invited.size),
    ready: sum(({ ready }) => ready.size),
  };
}

/** When the coordinator's own certificates end, in seconds since 1970; `tls` is the one it shows now. */
export function expiries(
  { coordinator }: Pick<Federation, "coordinator">,
  tls: Uint8Array,
): Record<string, number> {
  const { certificate } = coordinator;
  return {
    coordinator: decode(CertificateBodySchema, certificate.body, MAX_BODY_BYTES).notAfterS,
    tls: Date.parse(new X509Certificate(tls).validTo) / 1000,
  };
}
