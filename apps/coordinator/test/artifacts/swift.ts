import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePorts } from "../../../../claims/support/free-port.ts";

/**
 * A real S3-compatible server on loopback: OpenStack Swift with its S3 API, from Debian's packages, on a
 * folder of its own. Its passwords are made up here and guard nothing.
 */
export type Swift = { readonly endpoint: string; readonly credentials: Credentials; stop(): Promise<void> };
type Credentials = { readonly accessKeyId: string; readonly secretAccessKey: string };

const KINDS = ["account", "container", "object"] as const;
const NEEDED = [
  "swift-proxy-server",
  "swift-ring-builder",
  "memcached",
  ...KINDS.map((k) => `swift-${k}-server`),
];
const CREDENTIALS = { accessKeyId: "test:tester", secretAccessKey: "testing" };
const START_MS = 60_000;

/** Why there is none here; undefined where there is. */
export function whyNoSwift(): string | undefined {
  const missing = NEEDED.filter((name) => !existsSync(`/usr/bin/${name}`));
  return missing.length === 0
    ? undefined
    : `no ${missing.join(", ")} (Debian's packages swift-* and memcached)`;
}

export async function startSwift(): Promise<Swift> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-swift-"));
  const [cache, proxy, ...ports] = (await freePorts(2 + KINDS.length)) as [number, number, ...number[]];
  await mkdir(join(folder, "devices", "d1"), { recursive: true });
  const children: ChildProcess[] = [];
  const stop = async () => {
    await Promise.all(children.map(ended));
    await rm(folder, { recursive: true, force: true });
  };
  try {
    for (const [at, kind] of KINDS.entries()) {
      const port = ports[at] as number;
      ring(folder, kind, port);
      await writeFile(join(folder, `${kind}.conf`), storageConf(folder, kind, port));
      children.push(start(`swift-${kind}-server`, [join(folder, `${kind}.conf`)]));
    }
    await writeFile(join(folder, "proxy.conf"), proxyConf(folder, { proxy, cache }));
    children.push(start("memcached", ["-u", "nobody", "-l", "127.0.0.1", "-p", `${cache}`]));
    children.push(start("swift-proxy-server", [join(folder, "proxy.conf")]));
    const endpoint = `http://127.0.0.1:${proxy}`;
    await answering(endpoint);
    return { endpoint, credentials: CREDENTIALS, stop };
  } catch (cause) {
    await stop();
    throw cause;
  }
}

function ring(folder: string, kind: string, port: number): void {
  const build = (...args: string[]) =>
    execFileSync("/usr/bin/swift-ring-builder", [`${kind}.builder`, ...args], {
      cwd: folder,
      stdio: "ignore",
    });
  build("create", "4", "1", "1");
  build("add", `r1z1-127.0.0.1:${port}/d1`, "1");
  build("rebalance");
}

function storageConf(folder: string, kind: string, port: number): string {
  return `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
workers = 0
user = ${process.env.USER ?? "root"}
swift_dir = ${folder}
devices = ${join(folder, "devices")}
mount_check = false
[pipeline:main]
pipeline = ${kind}-server
[app:${kind}-server]
use = egg:swift#${kind}
`;
}

function proxyConf(folder: string, { proxy, cache }: { proxy: number; cache: number }): string {
  return `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${proxy}
workers = 0
user = ${process.env.USER ?? "root"}
swift_dir = ${folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
conn_timeout = 10
node_timeout = 30
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${cache}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
`;
}

function start(name: string, args: readonly string[]): ChildProcess {
  return spawn(`/usr/bin/${name}`, args, { stdio: "ignore" });
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGKILL");
  });
}

async function answering(endpoint: string): Promise<void> {
  const end = Date.now() + START_MS;
  for (;;) {
    const answer = await fetch(endpoint).catch(() => null);
    if (answer && answer.status < 500) return;
    if (Date.now() > end) throw new Error("the S3 server did not start");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
