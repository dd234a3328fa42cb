import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Fault } from "@tutti/foundation/fault";

/** What answers one path: a status, a type and a body. */
export type Page = () => Promise<{ readonly status: number; readonly type: string; readonly body: string }>;

const MAX_CONNECTIONS = 64;
const REQUEST_MS = 5_000;

/**
 * A small HTTP server for metrics and probes: GET and HEAD of known paths, no login, bounded in connections,
 * header and time, and no request's body is read. @throws Fault("unavailable") where the port is taken.
 */
export async function serveHttp(
  { host, port }: { readonly host: string; readonly port: number },
  pages: Readonly<Record<string, Page>>,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const limits = { headersTimeout: REQUEST_MS, requestTimeout: REQUEST_MS, maxHeaderSize: 8 << 10 };
  const server = createServer({ ...limits, keepAliveTimeout: REQUEST_MS }, (request, response) => {
    void answer(request, response, pages);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const got = cause.code ?? "an error";
      const field = cause.code === "EADDRINUSE" ? "port" : "host";
      const free = field === "port" ? "Free the port, or change" : "Change";
      const todo = `${free} \`operations.${field}\` in tutti.json`;
      reject(new Fault("unavailable", `operations on ${host}:${port}`, { got, todo, cause }));
    });
    server.listen({ host, port }, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  pages: Readonly<Record<string, Page>>,
): Promise<void> {
  const path = (request.url ?? "").split("?", 1)[0] ?? "";
  const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
  const known = request.method === "GET" || request.method === "HEAD";
  const text = (status: number, body: string) => ({ status, type: "text/plain; charset=utf-8", body });
  // What went wrong is nothing that a stranger on this port should read.
  const { status, type, body } = !known
    ? text(405, "only GET\n")
    : page
      ? await page().catch(() => text(500, "an error\n"))
      : text(404, `${Object.keys(pages).join("\n")}\n`);
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}
