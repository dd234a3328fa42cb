import { isIP } from "node:net";
import { Fault } from "@tutti/foundation/fault";

/** tutti.json: who the federation is and where its coordinator is found. */
export type Config = {
  readonly version: 1;
  readonly name: string;
  /** What devices dial. */
  readonly host: string;
  readonly port: number;
  /** Where the coordinator listens; differs from what is dialled behind a proxy or in a container. */
  readonly listen: { readonly host: string; readonly port: number };
};

const NAME = /^[A-Za-z0-9._-]{1,64}$/;
const HOST = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/;

/** "host:port", an IPv6 address in brackets. */
export function addressOf({ host, port }: { host: string; port: number }): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

export function configText(config: Config): string {
  const { version, name, host, port, listen } = config;
  const known = { version, name, host, port, listen: { host: listen.host, port: listen.port } };
  return `${JSON.stringify(known, null, 2)}\n`;
}

/** Reads tutti.json strictly. @throws Fault("bad-input") naming the field. */
export function parseConfig(text: string): Config {
  const file = fieldsOf("", parseJson(text), ["version", "name", "host", "port", "listen"]);
  const listen = fieldsOf("listen", file.listen, ["host", "port"]);
  if (file.version !== 1) throw wrong("version", "1", file.version);
  return checkConfig({
    version: 1,
    name: textOf("name", file.name),
    host: textOf("host", file.host),
    port: portOf("port", file.port),
    listen: { host: textOf("listen.host", listen.host), port: portOf("listen.port", listen.port) },
  });
}

export function checkConfig(config: Config): Config {
  const { name, host, port, listen } = config;
  if (!NAME.test(name)) throw wrong("name", "1..64 of A-Z a-z 0-9 . _ -", name);
  if (!isHost(host)) throw wrong("host", "a host name or IP address", host);
  if (!isHost(listen.host)) throw wrong("listen.host", "a host name or IP address", listen.host);
  portOf("port", port);
  portOf("listen.port", listen.port);
  return config;
}

function isHost(host: string): boolean {
  return isIP(host) !== 0 || HOST.test(host);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fault("bad-input", "tutti.json", { expected: "JSON", got: "other text", cause });
  }
}

/** Exactly these fields: a misspelt one must not silently mean its default. */
function fieldsOf(path: string, value: unknown, names: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw wrong(path, "an object", value);
  const stray = Object.keys(value).find((key) => !names.includes(key));
  if (stray !== undefined) throw wrong(path, `only ${names.join(", ")}`, stray.slice(0, 40));
  const missing = names.find((key) => !Object.hasOwn(value, key));
  if (missing !== undefined) throw wrong(path ? `${path}.${missing}` : missing, "a value", undefined);
  return value as Record<string, unknown>;
}

function textOf(path: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw wrong(path, "text", value);
}

function portOf(path: string, value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 65_535) return value;
  throw wrong(path, "an integer in 0..65535", value);
}

function wrong(path: string, expected: string, value: unknown): Fault {
  const got = value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
  return new Fault("bad-input", path ? `tutti.json: ${path}` : "tutti.json", { expected, got });
}
