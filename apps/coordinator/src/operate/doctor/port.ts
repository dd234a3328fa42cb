import { X509Certificate } from "node:crypto";
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Finding } from "@tutti/foundation/finding";
import type { Config } from "../../folder/config.ts";
import { PATHS, readText } from "../../folder/layout.ts";

type Look = Omit<Finding, "what">;

/** Asks a coordinator for its wall clock. */
export type Caller = () => Promise<number>;

const WAIT_MS = 3_000;
const ANY = new Set(["0.0.0.0", "::"]);

/** Free, served by this federation's coordinator, or another program's. */
export async function portOf(folder: string, { listen }: Config): Promise<Look> {
  const { host, port } = listen;
  const at = { host: ANY.has(host) ? "localhost" : host, port };
  if (port === 0) return { state: "ok", says: "any free one" };
  if (!(await isOpen(at))) return { state: "ok", says: `${port} is free` };
  const own = new X509Certificate(await readText(folder, PATHS.tlsCertificate));
  const shown = await certificateAt(at);
  if (shown?.equals(own.raw))
    return { state: "ok", says: `${port} is served by this federation's coordinator` };
  const todo = "Stop that program, or change listen.port in tutti.json";
  const by = shown ? "shows another certificate" : "speaks no TLS";
  return { state: "fail", says: `${port} is taken by something that ${by}`, todo };
}

export async function operationsPort({ host, port }: NonNullable<Config["operations"]>): Promise<Look> {
  const at = { host: ANY.has(host) ? "localhost" : host, port };
  if (!(await isOpen(at))) return { state: "ok", says: `${port} is free` };
  const answer = await fetch(`http://${at.host.includes(":") ? `[${at.host}]` : at.host}:${port}/readyz`, {
    signal: AbortSignal.timeout(WAIT_MS),
  }).catch(() => null);
  const body = (await answer?.json().catch(() => null)) as { ready?: unknown; checks?: Check[] } | null;
  const todo = "Stop that program, or change operations.port in tutti.json";
  if (typeof body?.ready !== "boolean")
    return { state: "fail", says: `${port} is taken by another program`, todo };
  if (body.ready) return { state: "ok", says: "the coordinator there is ready" };
  const why = (body.checks ?? []).filter(({ ok }) => !ok).map(({ name, says }) => `${name}: ${says}`);
  return {
    state: "warn",
    says: `the coordinator there is not ready: ${why.join("; ")}`,
    todo: "See its log",
  };
}

type Check = { readonly name: string; readonly ok: boolean; readonly says: string };
type Place = { readonly host: string; readonly port: number };

function isOpen({ host, port }: Place): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host, port, timeout: WAIT_MS });
    const end = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}

/** The certificate that is shown there; nothing is trusted for it, and nothing is said. */
function certificateAt({ host, port }: Place): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const socket = connectTls({
      host,
      port,
      timeout: WAIT_MS,
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
    });
    const end = (raw: Buffer | null) => {
      socket.destroy();
      resolve(raw);
    };
    socket.once("secureConnect", () => end(socket.getPeerX509Certificate()?.raw ?? null));
    socket.once("timeout", () => end(null));
    socket.once("error", () => end(null));
  });
}
