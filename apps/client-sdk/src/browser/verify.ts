import { fromHex, utf8 } from "@tutti/foundation/bytes";
import { isSoundKey } from "@tutti/identity/keys";
import type { Check, VerifyAll } from "@tutti/secagg/device/ahead";
import { Recent } from "../recent.ts";
import { latin1, Verdicts } from "../verdicts.ts";

/**
 * Ed25519 by WebCrypto, as strict as the portable `verify`; null where the browser has no Ed25519, or one
 * that takes what is not to be taken: the device then leaves `verifyAll` out and uses the portable one. A key
 * is let in by `isSoundKey`. Under a sound key the equation without the cofactor, which the standard asks for
 * (Secure Curves in the Web Cryptography API, Ed25519, Verify), leaves R one value; a probe makes sure.
 */
export async function browserVerify(subtle: SubtleCrypto = crypto.subtle): Promise<VerifyAll | null> {
  const keys = new Recent<CryptoKey>();
  const keyOf = async (publicKey: Uint8Array): Promise<CryptoKey | null> => {
    const id = latin1(publicKey);
    const known = keys.get(id);
    if (known) return known;
    if (!isSoundKey(publicKey)) return null;
    const key = await subtle.importKey("raw", publicKey as BufferSource, "Ed25519", true, ["verify"]);
    keys.set(id, key);
    return key;
  };
  const ask = async ({ publicKey, message, signature }: Check): Promise<boolean> => {
    if (publicKey.length !== 32 || signature.length !== 64) return false;
    const key = await keyOf(publicKey);
    return (
      key !== null &&
      (await subtle.verify("Ed25519", key, signature as BufferSource, message as BufferSource))
    );
  };
  return (await isStrict(ask)) ? remembering(ask) : null;
}

/** Each check that was good before is not asked again; the others are asked at once. */
function remembering(ask: (check: Check) => Promise<boolean>): VerifyAll {
  const verdicts = new Verdicts();
  return (checks) =>
    Promise.all(
      checks.map(async (check) => {
        const key = verdicts.keyOf(check);
        if (verdicts.isGood(key)) return true;
        const good = await ask(check);
        if (good) verdicts.remember(key);
        return good;
      }),
    );
}

/** Whether a platform takes a good signature, and neither of two that only a lax one takes. */
async function isStrict(ask: (check: Check) => Promise<boolean>): Promise<boolean> {
  try {
    const verdicts = await Promise.all(
      PROBE.map((signature) => ask({ ...PROBED, signature: fromHex(signature) })),
    );
    return verdicts[0] === true && verdicts.slice(1).every((verdict) => verdict === false);
  } catch {
    return false;
  }
}

const PROBED = {
  publicKey: fromHex("b862409fb5c4c4123df2abf7462b88f041ad36dd6864ce872fd5472be363c5b1"),
  message: utf8("tutti"),
};
const R = "1337036ac32d8f30d4589c3c1c595812ce0fff40e37c6f5a97ab213f318290ad";
const PROBE = [
  `${R}8b3a6fdbfc2d2d1dae78b797702843bad0b7d0130cca9786384e998dd41c750c`,
  // S + L in place of S: RFC 8032 section 5.1.7 refuses it.
  `${R}780e653817913f758415af3a4f2222cfd0b7d0130cca9786384e998dd41c751c`,
  // R with a part of order 8: good only in the equation times the cofactor.
  "5b94d525f09dbb3f8bec71da454b8a76c21f9edc1a6b2c8a2650090c0c6a2bd6" +
    "34251e3fceb41b7c2fe80d8c7abb837a30001f0c861ee8afade269b91d06580b",
];
