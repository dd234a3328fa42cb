import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Config, parseConfig } from "@tutti/coordinator/folder/config";
import { PATHS } from "@tutti/coordinator/folder/layout";
import { validate } from "dockerfile-utils";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { doctorCommand } from "../../apps/cli/src/commands/doctor.ts";
import { serveCommand } from "../../apps/cli/src/commands/serve.ts";

/**
 * What is in deploy/ cannot run here: there is no container engine and no cluster. What can be checked
 * without is: it parses, lints, and agrees with itself, with the config's schema and with the command line.
 */

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));
const read = (path: string) => readFileSync(join(DEPLOY, path), "utf8");
/** An orderly stop takes at most 20 s (apps/cli/src/commands/serve.ts). */
const STOP_S = 20;

/** A command line of ours has the words and the options that exist. */
function isOurs(words: readonly string[]): boolean {
  const [name, ...rest] = words;
  const command = [serveCommand(), doctorCommand()].find((one) => one.name() === name);
  if (!command) return false;
  const flags = rest.filter((word) => word.startsWith("--"));
  return flags.every((flag) => command.options.some(({ long }) => long === flag));
}

describe("systemd unit", () => {
  const text = read("systemd/tutti-coordinator.service");
  const fields = text.split("\n").filter((line) => /^[A-Z][A-Za-z]+=/.test(line));
  const of = (name: string) =>
    fields.filter((line) => line.startsWith(`${name}=`)).map((line) => line.slice(name.length + 1));

  test("starts what exists, and gives it time to stop in order", () => {
    for (const line of [...of("ExecStart"), ...of("ExecStartPre")]) {
      const [node, program, ...words] = line.split(" ");
      expect(node).toBe("/usr/bin/node");
      expect(program).toBe("/opt/tutti/dist/tutti.mjs");
      expect(isOurs(words), line).toBe(true);
    }
    expect(of("KillSignal")).toEqual(["SIGTERM"]);
    expect(Number(of("TimeoutStopSec")[0])).toBeGreaterThan(STOP_S);
    expect(Number(of("LimitNOFILE")[0])).toBeGreaterThan(10_256);
  });

  test("is started again however often it ends, as while its database is away", () => {
    const [unit, service] = text.split("[Service]");
    // By default five starts within ten seconds are the last; in another section it is ignored.
    expect(unit?.split("\n")).toContain("StartLimitIntervalSec=0");
    expect(service?.split("\n")).toContain("Restart=on-failure");
  });

  test("is shut in", () => {
    for (const line of [
      "NoNewPrivileges=true",
      "ProtectSystem=strict",
      "ProtectHome=true",
      "PrivateTmp=true",
      "CapabilityBoundingSet=",
      "SystemCallFilter=@system-service",
      "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
      "UMask=0077",
    ])
      expect(fields).toContain(line);
    expect(of("User")).toEqual(["tutti"]);
  });

  const analyser = "/usr/bin/systemd-analyze";
  test.skipIf(!existsSync(analyser))("systemd-analyze verifies it, where there is one", () => {
    const folder = mkdtempSync(join(tmpdir(), "tutti-unit-"));
    const unit = join(folder, "tutti-coordinator.service");
    // It looks for the programs too.
    writeFileSync(unit, text.replaceAll("/usr/bin/node", process.execPath));
    execFileSync(analyser, ["verify", unit]);
    rmSync(folder, { recursive: true });
  });
});

describe("Dockerfile", () => {
  const text = read("docker/Dockerfile");

  test("the linter finds nothing", () => {
    expect(validate(text)).toEqual([]);
    expect(validate("FROM node\nCMD x\nCMD y\nMAINTAINER z\n").length).toBeGreaterThan(1);
  });

  test("two stages, the user of the image, no install script, no floating tag", () => {
    const froms = text.match(/^FROM .*$/gm) ?? [];
    expect(froms).toHaveLength(2);
    for (const from of froms) expect(from).toMatch(/^FROM node:\d+\.\d+-\w+-slim( AS build)?$/);
    expect(text).toMatch(/^USER node$/m);
    expect(text.match(/npm (ci|install)[^&\n]*/g)).toEqual([expect.stringContaining("--ignore-scripts")]);
    expect(text).not.toMatch(/^ADD /m);
  });

  test("what it copies exists, what it runs is ours, its probe asks what is served", () => {
    for (const [, from] of text.matchAll(/^COPY (?!--from)(.*) \S+$/gm))
      for (const path of from!.split(" ")) expect(existsSync(join(DEPLOY, "..", path)), path).toBe(true);
    const list = (name: string) => JSON.parse(new RegExp(`^${name} (\\[.*\\])$`, "m").exec(text)![1]!);
    expect(list("ENTRYPOINT")).toEqual(["node", "/opt/tutti/dist/tutti.mjs"]);
    expect(isOurs(list("CMD"))).toBe(true);
    const { operations, listen } = parseConfig(read("docker/tutti.json"));
    expect(text).toContain(`EXPOSE ${listen.port} ${operations!.port}\n`);
    expect(text).toContain(`http://127.0.0.1:${operations!.port}/livez`);
  });

  test("keys and what was installed here are not sent to the builder", () => {
    const ignored = read("docker/Dockerfile.dockerignore").split("\n");
    for (const line of ["**", "**/*.key", "**/node_modules"]) expect(ignored).toContain(line);
  });
});

describe("compose file", () => {
  const file = parse(read("docker/compose.yaml"), { merge: true });
  const config = parseConfig(read("docker/tutti.json"));
  const coordinators = ["one", "two", "three"].map((name) => file.services[name]);

  test("three coordinators on the addresses that devices are told, one PostgreSQL", () => {
    expect(Object.keys(file.services)).toEqual(["one", "two", "three", "store"]);
    const ports = coordinators.map(({ command, ports: published }) => {
      expect(isOurs(command)).toBe(true);
      const port = Number(command.at(-1));
      expect(published).toEqual([`${port}:${port}`]);
      return port;
    });
    const told = [config.port, ...config.addresses.map((address) => Number(address.split(":").at(-1)))];
    expect(ports).toEqual(told);
    expect(file.services.store.image).toMatch(/^postgres:\d+\.\d+-/);
    expect(file.services.store.command).toEqual(
      expect.arrayContaining(["fsync=on", "synchronous_commit=on"]),
    );
  });

  test("secrets are files that exist nowhere here, and each is where the config says", () => {
    expect(config.store).toMatchObject({ engine: "postgres", urlFile: "/run/secrets/store-url" });
    for (const { secrets } of Object.values<{ secrets: string[] }>(file.services))
      for (const name of secrets) expect(Object.keys(file.secrets)).toContain(name);
    expect(existsSync(join(DEPLOY, "docker", "secrets"))).toBe(false);
  });

  test("no privileges, time to stop, and nothing starts before the store", () => {
    for (const one of coordinators) {
      expect(one).toMatchObject({ read_only: true, cap_drop: ["ALL"] });
      expect(Number.parseInt(one.stop_grace_period, 10)).toBeGreaterThan(STOP_S);
      expect(one.depends_on.store.condition).toBe("service_healthy");
      expect(existsSync(join(DEPLOY, "docker", one.build.context, one.build.dockerfile))).toBe(true);
    }
    expect(file.networks.inside.internal).toBe(true);
    expect(file.services.store.networks).toEqual(["inside"]);
  });
});

type Manifest = { kind: string; apiVersion: string; metadata: { name: string } } & Record<string, unknown>;

describe("Kubernetes manifests", () => {
  const { resources } = parse(read("kubernetes/kustomization.yaml")) as { resources: string[] };
  const all = resources.flatMap((name) =>
    parseAllDocuments(read(`kubernetes/${name}`), { strict: true }).map((one) => one.toJS() as Manifest),
  );
  const ofKind = (kind: string) => all.filter((one) => one.kind === kind);
  const set = ofKind("StatefulSet")[0] as Manifest & { spec: StatefulSet };
  const pod = set.spec.template.spec;
  const container = pod.containers[0]!;
  const map = ofKind("ConfigMap")[0] as Manifest & { data: Record<string, string> };
  const config: Config = parseConfig(map.data["tutti.json"]!);

  test("every file is listed, and every object has a kind and a name of its own", () => {
    const files = readdirSync(join(DEPLOY, "kubernetes")).filter((name) => name !== "kustomization.yaml");
    expect([...resources].sort()).toEqual(files.sort());
    const names = all.map(({ apiVersion, kind, metadata }) => `${apiVersion} ${kind} ${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => !name.includes("undefined"))).toBe(true);
  });

  test("probes ask what is served, where it is served", () => {
    const ports = new Map(container.ports.map(({ name, containerPort }) => [name, containerPort]));
    expect(ports.get("operations")).toBe(config.operations?.port);
    expect(config.operations?.host).toBe("0.0.0.0");
    expect(ports.get("grpc")).toBe(config.listen.port);
    const { startupProbe, livenessProbe, readinessProbe } = container;
    expect([startupProbe, livenessProbe].map(({ httpGet }) => httpGet.path)).toEqual(["/livez", "/livez"]);
    expect(readinessProbe.httpGet.path).toBe("/readyz");
    for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe])
      expect(httpGet.port).toBe("operations");
    // A store that does not answer is told within 2 s.
    expect(readinessProbe.timeoutSeconds).toBeGreaterThan(2);
    expect(isOurs(container.args)).toBe(true);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(STOP_S);
  });

  test("each coordinator has an address, and it is one that devices are told", () => {
    const addressed = ofKind("Service").filter(({ metadata }) => /-\d$/.test(metadata.name));
    expect(addressed).toHaveLength(set.spec.replicas);
    const told = [`${config.host}:${config.port}`, ...config.addresses];
    expect(told.map((address) => address.split(".")[0])).toEqual(
      addressed.map(({ metadata }) => metadata.name),
    );
    for (const { spec } of addressed as (Manifest & { spec: { ports: { port: number }[] } })[])
      expect(spec.ports.map(({ port }) => port)).toEqual([config.port]);
  });

  test("without privileges; every mount has its volume, and every secret its key", () => {
    expect(pod.securityContext.runAsNonRoot).toBe(true);
    for (const one of [container, ...pod.initContainers]) {
      expect(one.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      for (const { name } of one.volumeMounts) expect(pod.volumes.map((it) => it.name)).toContain(name);
    }
    const secret = ofKind("Secret")[0] as Manifest & { stringData: Record<string, string> };
    const wanted = [...JSON.stringify(pod.volumes).matchAll(/"key":"([^"]+)"/g)].map(([, key]) => key!);
    const known = [...Object.keys(secret.stringData), ...Object.keys(map.data)];
    expect(wanted.filter((key) => !known.includes(key))).toEqual([]);
    expect(wanted).not.toContain("authority.key");
    const placed = [...JSON.stringify(pod.volumes).matchAll(/"path":"([^"]+)"/g)].map(([, path]) => path!);
    const { config: file, authorityPublic, ownerCertificate, coordinatorKey, coordinatorCertificate } = PATHS;
    for (const path of [file, authorityPublic, ownerCertificate, coordinatorKey, coordinatorCertificate])
      expect(placed).toContain(path);
    for (const path of [PATHS.tlsKey, PATHS.tlsCertificate]) expect(placed).toContain(path);
    if (config.store.engine !== "postgres") throw new Error("expected PostgreSQL");
    expect(placed.map((path) => `/run/secrets/tutti/${path}`)).toContain(config.store.urlFile);
    expect(placed.map((path) => `/run/secrets/tutti/${path}`)).toContain(
      config.artifacts.s3?.credentialsFile,
    );
  });

  test("selectors select it; two stay when one is taken away; only its ports are open", () => {
    const { labels } = set.spec.template.metadata;
    const selects = (chosen: Record<string, string>) =>
      Object.entries(chosen).every(([name, value]) => labels[name] === value);
    expect(selects(set.spec.selector.matchLabels)).toBe(true);
    const budget = ofKind("PodDisruptionBudget")[0]!.spec as Budget;
    expect(selects(budget.selector.matchLabels)).toBe(true);
    expect(budget.minAvailable).toBe(set.spec.replicas - 1);
    const { podSelector, ingress } = ofKind("NetworkPolicy")[0]!.spec as Network;
    expect(selects(podSelector.matchLabels)).toBe(true);
    expect(ingress.flatMap(({ ports }) => ports.map(({ port }) => port))).toEqual([
      config.listen.port,
      config.operations?.port,
    ]);
  });
});

type Probe = { httpGet: { path: string; port: string }; timeoutSeconds: number };
type Container = {
  args: string[];
  ports: { name: string; containerPort: number }[];
  startupProbe: Probe;
  livenessProbe: Probe;
  readinessProbe: Probe;
  securityContext: unknown;
  volumeMounts: { name: string }[];
};
type StatefulSet = {
  replicas: number;
  selector: { matchLabels: Record<string, string> };
  template: {
    metadata: { labels: Record<string, string> };
    spec: {
      terminationGracePeriodSeconds: number;
      securityContext: { runAsNonRoot: boolean };
      containers: Container[];
      initContainers: Pick<Container, "securityContext" | "volumeMounts">[];
      volumes: { name: string }[];
    };
  };
};
type Budget = { minAvailable: number; selector: { matchLabels: Record<string, string> } };
type Network = {
  podSelector: { matchLabels: Record<string, string> };
  ingress: { ports: { port: number }[] }[];
};
