import { X509Certificate } from "node:crypto";
import { connect as connectTcp, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { hex } from "@tutti/foundation/bytes";
import type { Look } from "@tutti/foundation/finding";
import type { Config } from "../../folder/config.ts";
import { PATHS, readHex, readText } from "../../folder/layout.ts";

/** Asks a coordinator for its wall clock. */
export type Caller = () => Promise<number>;

const WAIT_MS = 3_000;
const ANY = new Set(["0.0.0.0", "::"]);

/** Free, served by this federation's coordinator, or another program's. */
export async function portOf(folder: string, { listen }: Config): Promise<Look> {
  const { host, port } = listen;
  const at = { host: ANY.has(host) ? "localhost" : host, port };
  const absent = await absentHost(host, "listen.host");
  if (absent) return absent;
  if (port === 0) return { state: "ok", says: "any free one" };
  if (!(await isOpen(at))) return { state: "ok", says: `${port} is free` };
  const own = ownCertificate(await readText(folder, PATHS.tlsCertificate));
  const shown = await certificateAt(at);
  if (own === null) return { state: "fail", says: `${port} is taken; by whom tls.pem cannot tell` };
  if (shown?.equals(own.raw))
    return { state: "ok", says: `${port} is served by this federation's coordinator` };
  const todo = "Stop that program, or change listen.port in tutti.json";
  const by = shown ? "shows another certificate" : "speaks no TLS";
  return { state: "fail", says: `${port} is taken by something that ${by}`, todo };
}

/** Null for what is no certificate: the look at it says so. */
function ownCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch {
    return null;
  }
}

/** What is wrong with an address to listen on, whatever the port: it is another machine's, or nobody's. */
async function absentHost(host: string, field: string): Promise<Look | null> {
  const code = await new Promise<string>((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "an error"));
    server.listen({ host, port: 0 }, () => server.close(() => resolve("")));
  });
  if (code === "") return null;
  const todo = `Change ${field} in tutti.json; 0.0.0.0 is all of this machine's`;
  return { state: "fail", says: `${host} is no address of this machine (${code})`, todo };
}

/** Free, or answered by this federation's coordinator; `tutti serve` cannot start beside any other's. */
export async function operationsPort(folder: string, { host, port }: Operations): Promise<Look> {
  const absent = await absentHost(host, "operations.host");
  if (absent) return absent;
  const at = { host: ANY.has(host) ? "localhost" : host, port };
  if (!(await isOpen(at))) return { state: "ok", says: `${port} is free` };
  const answer = await fetch(`http://${at.host.includes(":") ? `[${at.host}]` : at.host}:${port}/readyz`, {
    signal: AbortSignal.timeout(WAIT_MS),
  }).catch(() => null);
  const body = (await answer?.json().catch(() => null)) as Ready | null;
  const todo = "Stop that program, or change operations.port in tutti.json";
  if (typeof body?.ready !== "boolean")
    return { state: "fail", says: `${port} is taken by another program`, todo };
  if (typeof body.authority !== "string")
    return { state: "warn", says: `the coordinator on ${port} does not say whose it is`, todo: STARTING };
  if (body.authority !== hex(await readHex(folder, PATHS.authorityPublic))) {
    const name = typeof body.federation === "string" ? ` ${body.federation.slice(0, 80)}` : "";
    const says = `${port} is taken by the coordinator of another federation${name}`;
    return { state: "fail", says, todo: "Change operations.port in one of the two tutti.json" };
  }
  if (body.ready) return { state: "ok", says: "this federation's coordinator there is ready" };
  const why = (body.checks ?? []).filter(({ ok }) => !ok).map(({ name, says }) => `${name}: ${says}`);
  return {
    state: "warn",
    says: `this federation's coordinator there is not ready: ${why.join("; ")}`,
    todo: "See its log",
  };
}

const STARTING = "It may be starting: ask again; one of an older version is to be restarted with this one";

type Operations = NonNullable<Config["operations"]>;
type Ready = { ready?: unknown; federation?: unknown; authority?: unknown; checks?: Check[] };
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
