import type { AgreeAll } from "@tutti/secagg/agree";
import { publicKeyOf } from "@tutti/secagg/agree";
import { X25519_PKCS8 } from "../der.ts";

/**
 * X25519 by WebCrypto: the bytes of the portable one; null where the browser has no X25519. A point of small
 * order, at which WebCrypto throws, gives null in the list.
 */
export async function browserAgree(subtle: SubtleCrypto = crypto.subtle): Promise<AgreeAll | null> {
  const agreeAll: AgreeAll = async (secretKey, publicKeys) => {
    const own = await importSecret(subtle, secretKey);
    return await Promise.all(publicKeys.map((key) => agreeWith(subtle, own, key)));
  };
  try {
    const secret = new Uint8Array(32).fill(1);
    const [shared] = await agreeAll(secret, [publicKeyOf(secret)]);
    return shared ? agreeAll : null;
  } catch {
    return null;
  }
}

async function importSecret(subtle: SubtleCrypto, secretKey: Uint8Array): Promise<CryptoKey> {
  const der = new Uint8Array([...X25519_PKCS8, ...secretKey]);
  try {
    return await subtle.importKey("pkcs8", der, "X25519", false, ["deriveBits"]);
  } finally {
    der.fill(0);
  }
}

async function agreeWith(
  subtle: SubtleCrypto,
  own: CryptoKey,
  theirs: Uint8Array,
): Promise<Uint8Array | null> {
  try {
    const key = await subtle.importKey("raw", theirs as BufferSource, "X25519", true, []);
    return new Uint8Array(await subtle.deriveBits({ name: "X25519", public: key }, own, 256));
  } catch {
    return null;
  }
}
