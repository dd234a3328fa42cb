import { isIP } from "node:net";
import * as v from "valibot";

/**
 * tutti.json, version 1: the coordinator's one config file. Each field is documented where it is defined;
 * docs/operating.md prints these words (test/folder/explain.ts), and a test holds them together. Only what
 * `tutti init` writes is required.
 */

const HOST = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/;
const ADDRESS = /^(\[[0-9A-Fa-f:.]{2,45}\]|[^:[\]]{1,253}):([0-9]{1,5})$/;

const text = (most = 1024) => v.pipe(v.string("text"), v.minLength(1, "some text"), v.maxLength(most));
const whole = (low: number, high: number) => {
  const says = `an integer in ${low}..${high}`;
  return v.pipe(v.number(says), v.integer(says), v.minValue(low, says), v.maxValue(high, says));
};
const port = whole(0, 65_535);
const host = v.pipe(v.string("text"), v.check(isHost, "a host name or IP address"));
const file = text();
const says = v.description;

function isHost(value: string): boolean {
  return isIP(value) !== 0 || HOST.test(value);
}

function isAddress(value: string): boolean {
  const [, name = "", digits = ""] = ADDRESS.exec(value) ?? [];
  const bare = name.replace(/^\[|\]$/g, "");
  return Number(digits) >= 1 && Number(digits) <= 65_535 && (name === bare ? isHost(bare) : isIP(bare) === 6);
}

const sqlite = v.strictObject({
  engine: v.pipe(v.literal("sqlite"), says("A file in the federation's folder; one coordinator.")),
});

const postgres = v.pipe(
  v.strictObject({
    engine: v.pipe(
      v.literal("postgres"),
      says("A PostgreSQL database, which several coordinators may share."),
    ),
    url: v.exactOptional(
      v.pipe(
        text(),
        v.check((it) => /^postgres(ql)?:\/\//.test(it), "a URL that begins postgres:// or postgresql://"),
        says("`postgres://user:password@host:port/database`. Either this or `urlFile`."),
      ),
    ),
    urlFile: v.exactOptional(
      v.pipe(
        file,
        says("A file that holds the URL, so that its password is not in this one (a mounted secret)."),
      ),
    ),
    poolSize: v.optional(v.pipe(whole(1, 100), says("Most connections to the database.")), 8),
  }),
  v.check((it) => (it.url === undefined) !== (it.urlFile === undefined), "either url or urlFile"),
);

const s3 = v.strictObject({
  endpoint: v.pipe(
    text(),
    v.check((it) => /^https?:\/\//.test(it), "a URL that begins http:// or https://"),
    says("The bucket's service, `https://…`."),
  ),
  bucket: v.pipe(text(63), says("The bucket's name.")),
  region: v.pipe(text(64), says("The region that requests are signed for.")),
  prefix: v.exactOptional(v.pipe(text(256), says("What every object's name begins with."))),
  credentialsFile: v.pipe(
    file,
    says('A JSON file of its own: `{"accessKeyId": "…", "secretAccessKey": "…"}`, mode 0600.'),
  ),
  cacheBytes: v.optional(
    v.pipe(whole(1 << 20, 2 ** 45), says("Bytes that this coordinator keeps of it in its own folder.")),
    16 * 2 ** 30,
  ),
});

const artifacts = v.pipe(
  v.strictObject({
    folder: v.exactOptional(
      v.pipe(file, says("A folder, kept by hash. Absent: `coordinator/artifacts` of the federation.")),
    ),
    s3: v.exactOptional(v.pipe(s3, says("An S3-compatible bucket instead of a folder."))),
  }),
  v.check((it) => it.folder === undefined || it.s3 === undefined, "either folder or s3"),
);

const retention = v.strictObject({
  rounds: v.exactOptional(
    v.pipe(
      whole(1, 1_000_000_000),
      says(
        "Newest rounds of a run whose evidence stays: strategy states, sums, transcripts, records of" +
          " history. Absent: all. Older rounds cannot be checked any more.",
      ),
    ),
  ),
  releases: v.exactOptional(
    v.pipe(
      whole(2, 1_000_000_000),
      says("Newest rounds of a run whose adapters stay, and newest signed manifests. Absent: all."),
    ),
  ),
  auditEntries: v.exactOptional(
    v.pipe(
      whole(100, 1_000_000_000),
      says("Newest entries of the audit log that stay, and up to a hundred more. Absent: all. Export first."),
    ),
  ),
});

const operations = v.strictObject({
  host: v.optional(
    v.pipe(host, says("Where it listens. It has no login: keep it off the internet.")),
    "127.0.0.1",
  ),
  port: v.optional(v.pipe(port, says("HTTP port for `/metrics`, `/livez` and `/readyz`.")), 9464),
});

const log = v.strictObject({
  level: v.optional(
    v.pipe(
      v.picklist(["debug", "info", "warn", "error"]),
      says("The least important event that is written."),
    ),
    "info",
  ),
  format: v.exactOptional(
    v.pipe(
      v.picklist(["json", "text"]),
      says("One JSON object a line, or a line for people. Absent: text on a terminal, else json."),
    ),
  ),
});

const tracing = v.strictObject({
  endpoint: v.pipe(
    text(),
    v.check((it) => /^https?:\/\//.test(it), "a URL that begins http:// or https://"),
    says("OTLP over HTTP, for instance `http://127.0.0.1:4318/v1/traces`. No section: nothing is ever sent."),
  ),
});

const limits = v.strictObject({
  connections: v.optional(
    v.pipe(
      whole(1, 1_000_000),
      says("Most connections at once; the section Memory is about what they cost."),
    ),
    12_000,
  ),
  connectionsPerAddress: v.optional(
    v.pipe(
      whole(1, 1_000_000),
      says(
        "Most connections from one address, of IPv6 from one /64: all devices of a hospital may share one.",
      ),
    ),
    1_000,
  ),
  connectionsPerDevice: v.optional(
    v.pipe(whole(1, 100_000), says("Most connections of one device; beyond, its oldest is cut.")),
    8,
  ),
  newcomers: v.optional(
    v.pipe(
      whole(1, 1_000_000),
      says("Most connections that nobody signed a request over yet; beyond, the oldest is cut."),
    ),
    2_000,
  ),
  streamsPerConnection: v.optional(
    v.pipe(whole(1, 10_000), says("Most calls at once on a connection.")),
    100,
  ),
  callsPerSecond: v.optional(
    v.pipe(whole(1, 100_000), says("Calls that one connection may begin a second, counted over ten.")),
    100,
  ),
  calls: v.optional(
    v.pipe(
      whole(1, 1_000_000),
      says("Most calls at once, but for those of rounds; more are asked to come back."),
    ),
    2_000,
  ),
  uploadBytes: v.optional(
    v.pipe(whole(1 << 20, 2 ** 40), says("Bytes of uploads admitted at once; more are asked to come back.")),
    256 << 20,
  ),
  memoryBytes: v.optional(
    v.pipe(
      whole(0, 2 ** 50),
      says("Resident size above which new work is asked to come back; 0 is four fifths of the machine's."),
    ),
    0,
  ),
});

const identity = v.strictObject({
  clientCertificates: v.optional(
    v.pipe(
      v.picklist(["off", "optional", "required"]),
      says("Whether devices show a TLS certificate too. Their requests are signed in any case."),
    ),
    "off",
  ),
  devicesPerSite: v.exactOptional(
    v.pipe(whole(1, 100_000), says("Most devices that one site may enrol. Absent: no limit.")),
  ),
  renewalGraceDays: v.optional(
    v.pipe(
      whole(0, 3650),
      says("For how long a device whose certificate has expired may still ask for a new one."),
    ),
    30,
  ),
});

const listen = v.strictObject({
  host: v.pipe(host, says("Where the coordinator listens: `0.0.0.0`, `::`, or one address of the machine.")),
  port: v.pipe(port, says("Its port; 0 takes a free one.")),
});

export const schema = v.strictObject({
  version: v.pipe(v.literal(1), says("Of this file's form.")),
  name: v.pipe(
    v.string("text"),
    v.regex(/^[A-Za-z0-9._-]{1,64}$/, "1..64 of A-Z a-z 0-9 . _ -"),
    says("The federation's name."),
  ),
  host: v.pipe(host, says("What devices dial; written into join files.")),
  port: v.pipe(port, says("The port that devices dial.")),
  listen: v.pipe(listen, says("Differs from what is dialled behind a proxy or in a container.")),
  addresses: v.optional(
    v.pipe(
      v.array(v.pipe(v.string("text"), v.check(isAddress, 'a "host:port"'))),
      v.maxLength(16, "at most 16"),
      says('Further "host:port" that devices may dial: other coordinators of this federation.'),
    ),
    [],
  ),
  store: v.optional(
    v.pipe(v.variant("engine", [sqlite, postgres]), says("Where rounds and devices are kept.")),
    {
      engine: "sqlite",
    },
  ),
  artifacts: v.optional(v.pipe(artifacts, says("Where models and releases are kept.")), {}),
  retention: v.optional(v.pipe(retention, says("What is kept of what grows.")), {}),
  operations: v.exactOptional(v.pipe(operations, says("Metrics and probes over HTTP. Absent: off."))),
  log: v.optional(v.pipe(log, says("What is written to stderr.")), {}),
  tracing: v.exactOptional(v.pipe(tracing, says("OpenTelemetry traces. Absent: off."))),
  limits: v.optional(v.pipe(limits, says("What one coordinator takes on.")), {}),
  identity: v.optional(v.pipe(identity, says("Who may connect and enrol.")), {}),
});
