import { access, rename, rm } from "node:fs/promises";
import { dirname, join as path, resolve } from "node:path";
import { base64, equalBytes, fromBase64, fromUtf8, hex } from "@tutti/foundation/bytes";
import { systemClock } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { platformRandom, type SecretRandom } from "@tutti/foundation/random";
import { bind, verifyCertificate } from "@tutti/identity/certificate";
import { type JoinFile, joinFileText, parseJoinFile, spent } from "@tutti/identity/join";
import { newSeed, type SigningKey, signingKey } from "@tutti/identity/keys";
import {
  type Certificate,
  CertificateSchema,
  EnrollRequestSchema,
  HelloRequestSchema,
} from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import type { Link } from "../link.ts";
import { defaultPolicy, policyText } from "../policy.ts";
import { makeFolder, readIfThere, replaceFile, syncFolder, writeSynced } from "./atomic.ts";
import { configText, FILES, MAX_CERTIFICATE_BYTES } from "./folder.ts";
import { connect } from "./grpc.ts";
import { lockFolder } from "./lock.ts";
import { openPins } from "./pins.ts";
import { type TlsIdentity, tlsIdentity } from "./sign.ts";

export type JoinOptions = {
  /** Text of the join file. */
  readonly joinFile: string;
  /** Where the device will live; made, for its user alone, if it is not there. */
  readonly folder: string;
  /** What keys are made from; the platform's CSPRNG unless told. */
  readonly random?: SecretRandom;
  /** Where rows may be read from, for the policy that is written; none by default. */
  readonly dataFolder?: string;
  /** How to reach the coordinator, where it is not over gRPC. */
  readonly link?: Pick<Link, "enroll">;
  /** Is told what is waited for, where another process may have the folder. */
  readonly waits?: (because: string) => void;
};

/** Where a joining is prepared; its key waits here, so that one cut short is finished with the same key. */
const STAGING = ".joining";

/**
 * Joins a federation: makes the device's key, binds the join file's one-time token to it, enrols, and
 * writes the device's folder. Killed at any point, joining again finishes it; `device.json` comes last and
 * says it is done. In a folder that was a device's, without its `device.json`, key and policy stay.
 * @throws Fault("conflict") when the folder already is a device's, or another process joins in it;
 * Fault("refused") when the token was used.
 */
export async function join(options: JoinOptions): Promise<void> {
  const { folder, waits = () => {} } = options;
  const file = parseJoinFile(options.joinFile);
  await mustBeFree(folder);
  const token = unspent(file);
  await makeFolder(dirname(resolve(folder)));
  // Logs, policy and models are as much the site's own as its key.
  await makeFolder(folder, 0o700);
  const unlock = await lockFolder(folder, { waits });
  try {
    // Who had the lock until now may have joined.
    await mustBeFree(folder);
    await joinLocked(file, token, options);
  } finally {
    await unlock();
  }
}

async function joinLocked(file: JoinFile, token: Token, options: JoinOptions): Promise<void> {
  const { folder, random = platformRandom(), dataFolder, link } = options;
  const staging = path(folder, STAGING);
  const wasCut = await isThere(staging);
  // What the site wrote stays, also where joining was tried before.
  const ownPolicy = await isThere(path(folder, FILES.policy));
  await makeFolder(staging);
  const { key, shows } = await keptKey(folder, random);
  const { certificate, name } = certify(token, key, file.authority);
  await enrol({ file, folder, key, shows, certificate, name, link }).catch(async (error: unknown) => {
    // A key made for a token that was used is bound to nothing; one of before may be, to another token.
    if (asFault(error).code === "refused" && !wasCut) await rm(staging, { recursive: true, force: true });
    throw error;
  });
  const { federation, address, addresses = [], authority } = file;
  const owners = file.owners.map(({ name, publicKey }) => ({ name, publicKey: hex(publicKey) }));
  const config = configText({ federation, name, address, addresses, tls: pinnedBy(file), authority });
  await writeSynced(path(staging, FILES.certificate), encode(CertificateSchema, certificate));
  if (!ownPolicy)
    await writeSynced(path(staging, FILES.policy), policyText(defaultPolicy(owners, dataFolder ?? null)));
  await writeSynced(path(staging, FILES.device), config);
  await moveIn(staging, folder);
  await rm(staging, { recursive: true, force: true });
}

function isThere(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function mustBeFree(folder: string): Promise<void> {
  if (!(await isThere(path(folder, FILES.device)))) return;
  const todo = "Leave it as it is, or join in another folder";
  throw new Fault("conflict", folder, { expected: "no device yet", got: `a ${FILES.device}`, todo });
}

/**
 * The key of a joining that was cut short, wherever it was cut: the token is bound to that key and to no
 * other. Else a new one, on disk with the folders that lead to it before anybody hears of it.
 */
async function keptKey(folder: string, random: SecretRandom): Promise<OwnKey> {
  const staged = path(folder, STAGING, FILES.key);
  const held = (await readIfThere(staged)) ?? (await readIfThere(path(folder, FILES.key)));
  if (held) return ownKey(fromBase64(fromUtf8(held).trim(), FILES.key));
  const seed = newSeed(random);
  await replaceFile(staged, `${base64(seed)}\n`, 0o600);
  await syncFolder(folder);
  await syncFolder(dirname(resolve(folder)));
  return ownKey(seed);
}

type OwnKey = { readonly key: SigningKey; readonly shows: TlsIdentity };

function ownKey(seed: Uint8Array): OwnKey {
  return { key: signingKey(seed), shows: tlsIdentity(seed) };
}

/** The key last but one: until `device.json` is there, the next joining finds it in one of two places. */
async function moveIn(staging: string, folder: string): Promise<void> {
  await syncFolder(staging);
  for (const name of [FILES.certificate, FILES.policy, FILES.key, FILES.device]) {
    // In its place already: the key, moved by a joining that was cut right after; the site's own policy.
    if (!(await isThere(path(staging, name)))) continue;
    await rename(path(staging, name), path(folder, name));
  }
  await syncFolder(folder);
}

/**
 * Takes the secret out of the join file that this folder's device joined with; `tutti verify` still reads the
 * rest. Another's file, or one that is spent already, stays as it is. A copy elsewhere is out of reach here:
 * against that stands the pinning of peers (peers.ts).
 * @throws Fault("storage") when it cannot be rewritten: then delete it by hand.
 */
export async function spendJoinFile(file: string, folder: string): Promise<void> {
  const held = await readIfThere(file);
  const own = await readIfThere(path(folder, FILES.certificate));
  if (held === null || own === null) return;
  const joinFile = parseJoinFile(fromUtf8(held));
  const { body } = decode(CertificateSchema, own, MAX_CERTIFICATE_BYTES);
  if (joinFile.token.secret === null || !equalBytes(joinFile.token.grant.body, body)) return;
  await replaceFile(file, joinFileText(spent(joinFile)), 0o600);
}

/** A takeover is over in half of it. */
const TAKEOVER_MS = 10_000;

/** PEM of every certificate that a join file tells to accept. */
function pinnedBy({ tls }: JoinFile): string {
  return [tls.certificate, ...(tls.others ?? [])].join("\n");
}

type Token = { readonly grant: Certificate; readonly secret: Uint8Array };

function unspent({ token: { grant, secret } }: JoinFile): Token {
  if (secret) return { grant, secret };
  const todo = "Ask the federation's operator for a join file under a new name";
  throw new Fault("refused", "join file", { expected: "an unused token", got: "a file that is spent", todo });
}

function certify(
  { grant, secret }: Token,
  key: SigningKey,
  authority: Uint8Array,
): { certificate: Certificate; name: string } {
  const certificate = bind(grant, signingKey(secret), key.publicKey);
  const nowS = Math.floor(systemClock().wallMs() / 1000);
  const { name } = verifyCertificate(certificate, { authority, role: "device", nowS });
  return { certificate, name };
}

type Enrolment = OwnKey & {
  readonly folder: string;
  readonly file: JoinFile;
  readonly certificate: Certificate;
  readonly name: string;
  readonly link: Pick<Link, "enroll"> | undefined;
};

async function enrol({ file, folder, key, shows, certificate, name, link }: Enrolment): Promise<void> {
  const { address, addresses = [] } = file;
  const tls = pinnedBy(file);
  const pins = await openPins(folder, file.authority);
  const where = { address, addresses, tls, pins, patienceMs: TAKEOVER_MS };
  const own = link ? null : connect({ ...where, name, key, shows });
  try {
    // Greeting first finds out whether the coordinator has another TLS certificate than the join file says.
    await own?.hello(create(HelloRequestSchema));
    await (link ?? own)?.enroll(create(EnrollRequestSchema, { certificate }));
  } catch (error) {
    const { code } = asFault(error);
    if (code !== "conflict") throw error;
    const todo = "Ask the federation's operator for a join file under a new name";
    throw new Fault("refused", `joining as ${name}`, {
      expected: "a name and a token that nobody has used",
      got: "used ones",
      todo,
      cause: error,
    });
  } finally {
    own?.close();
  }
}
