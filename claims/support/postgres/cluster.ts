import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, chownSync, openSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "../free-port.ts";
import { NO_POSTGRES, POSTGRES } from "./binaries.ts";

const run = promisify(execFile);

/** Where a cluster listens, and how it is told apart from any other on this machine. */
export type Place = {
  readonly folder: string;
  readonly port: number;
  readonly password: string;
  /** The process that it should not outlive; the one that starts it where none is said. */
  readonly owner?: number;
};

const USER = "tutti";
const WAIT_MS = 60_000;
const LOOK_MS = 20;

/**
 * A private PostgreSQL in a folder of its own. Durable as PostgreSQL is by itself: what the store checks when
 * it opens would refuse a faster one.
 */
export class Cluster {
  readonly place: Place;
  #made = 0;

  constructor(place: Place) {
    this.place = place;
  }

  /** Makes the cluster and starts it; `hosts` is where it listens besides its socket. */
  static async open(options: { hosts?: string; port?: number; owner?: number } = {}): Promise<Cluster> {
    const { hosts = "127.0.0.1", port = await freePort(), owner = process.pid } = options;
    if (POSTGRES === null) throw new Error(NO_POSTGRES);
    const folder = await mkdtemp(join(tmpdir(), "tutti-postgres-"));
    const cluster = new Cluster({ folder, port, password: randomWord(), owner });
    try {
      await cluster.#make(hosts);
      await cluster.start();
      return cluster;
    } catch (cause) {
      await cluster.close();
      throw cause;
    }
  }

  /** For a coordinator's `store.url`. */
  url(database: string, at = { host: "127.0.0.1", port: this.place.port }): string {
    return `postgres://${USER}:${this.place.password}@${at.host}:${at.port}/${database}`;
  }

  /** A new, empty database's URL. */
  async database(): Promise<string> {
    const name = `t${process.pid}_${this.#made++}_${randomWord().slice(0, 8)}`;
    await this.query("postgres", `create database ${name}`);
    return this.url(name);
  }

  /** What `psql` prints of a statement: rows as lines, columns apart by "|". */
  async query(database: string, sql: string): Promise<string> {
    const { folder, port } = this.place;
    const at = ["-h", join(folder, "run"), "-p", `${port}`, "-U", USER, "-d", database];
    const options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql];
    const env = { ...process.env, PGPASSWORD: this.place.password };
    const { stdout } = await run(join(POSTGRES!, "psql"), [...at, ...options], { env });
    return stdout.trim();
  }

  /** Starts the server, also after it was killed: then it recovers from its log first. */
  async start(): Promise<void> {
    const began = performance.now();
    // Processes of a killed server may hold its memory for a moment; a new one is refused until then.
    while (!(await this.#tryToStart())) {
      if (performance.now() - began > WAIT_MS) throw new Error(`PostgreSQL did not start:\n${this.#log()}`);
      await pause();
    }
  }

  /** Ends it in order; connections are cut, transactions in progress rolled back. */
  async stop(): Promise<void> {
    await this.#end("SIGINT");
  }

  /** SIGKILL to the server and all of its processes at once, as a power cut would. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Nothing of it runs, and no connection is closed, until `resume`. */
  async freeze(): Promise<void> {
    for (const pid of this.#pids()) signal(pid, "SIGSTOP");
  }

  async resume(): Promise<void> {
    for (const pid of this.#pids()) signal(pid, "SIGCONT");
  }

  async close(): Promise<void> {
    await this.resume();
    await this.kill();
    await rm(this.place.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async #make(hosts: string): Promise<void> {
    const { folder, port, password } = this.place;
    const secret = join(folder, "password");
    await writeFile(secret, `${password}\n`);
    await mkdir(join(folder, "run"));
    chmodSync(folder, 0o711);
    const user = otherThanRoot();
    if (user) for (const path of [folder, secret, join(folder, "run")]) chownSync(path, user.uid, user.gid);
    const options = ["-U", USER, "-A", "scram-sha-256", `--pwfile=${secret}`, "-E", "UTF8", "--locale=C"];
    await run(join(POSTGRES!, "initdb"), ["-D", this.#data, "-N", ...options], { ...user, cwd: folder });
    const settings = [
      `listen_addresses = '${hosts}'`,
      `port = ${port}`,
      `unix_socket_directories = '${join(folder, "run")}'`,
      "max_connections = 120",
      "shared_buffers = 16MB",
      "log_min_messages = warning",
    ];
    await writeFile(join(this.#data, "postgresql.auto.conf"), `${settings.join("\n")}\n`);
    await writeFile(
      join(this.#data, "pg_hba.conf"),
      "local all all scram-sha-256\nhost all all all scram-sha-256\n",
    );
  }

  async #tryToStart(): Promise<boolean> {
    const { folder } = this.place;
    await rm(join(this.#data, "postmaster.pid"), { force: true });
    const log = openSync(join(folder, "log"), "a");
    const options = {
      ...otherThanRoot(),
      cwd: folder,
      detached: true,
      stdio: ["ignore", log, log] as never[],
    };
    const server: ChildProcess = spawn(join(POSTGRES!, "postgres"), ["-D", this.#data], options);
    server.unref();
    if (server.pid !== undefined) this.#watchOver(server.pid);
    const ended = new Promise<boolean>((resolve) => server.once("exit", () => resolve(false)));
    return await Promise.race([ended, this.#ready(server)]);
  }

  /** Whoever made the cluster may be killed before it could close it: then it ends all the same. */
  #watchOver(server: number): void {
    const { folder, owner = process.pid } = this.place;
    const wait = `while kill -0 ${owner} && kill -0 ${server}; do sleep 1; done`;
    const end = `kill -0 ${owner} || { kill -INT ${server}; rm -rf '${folder}'; }`;
    const options = { detached: true, stdio: "ignore" } as const;
    spawn("sh", ["-c", `(${wait}; ${end}) 2>/dev/null`], options).unref();
  }

  /** Its own file says so; the eighth line of it is the state. */
  async #ready(server: ChildProcess): Promise<boolean> {
    while (server.exitCode === null && server.signalCode === null) {
      const text = await readFile(join(this.#data, "postmaster.pid"), "utf8").catch(() => "");
      if (text.split("\n")[7]?.trim() === "ready") return true;
      await pause();
    }
    return false;
  }

  async #end(how: "SIGINT" | "SIGKILL"): Promise<void> {
    const pids = this.#pids();
    // The postmaster first, or it would start others in the place of those that are killed.
    for (const pid of how === "SIGKILL" ? pids : pids.slice(0, 1)) signal(pid, how);
    while (pids.some(isAlive)) await pause();
  }

  get #data(): string {
    return join(this.place.folder, "data");
  }

  /** The server's process and its children, if it runs. */
  #pids(): number[] {
    try {
      const pid = Number(readFileSync(join(this.#data, "postmaster.pid"), "utf8").split("\n")[0]);
      if (!isAlive(pid)) return [];
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
      return [pid, ...(children ? children.split(/\s+/).map(Number) : [])];
    } catch {
      return [];
    }
  }

  #log(): string {
    return readFileSync(join(this.place.folder, "log"), "utf8").slice(-2000);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended by itself.
  }
}

/** A process that ended and was not waited for yet counts as gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** PostgreSQL refuses to run as root: then its own user of Debian's package, or nobody. */
function otherThanRoot(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  for (const name of ["postgres", "nobody"]) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(":") ?? [];
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error("PostgreSQL does not run as root, and this machine has no user postgres or nobody");
}

function randomWord(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("hex");
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}
