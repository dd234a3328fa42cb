import { nativeAgree } from "@tutti/coordinator/native";
import { open, type Shares, seal } from "@tutti/secagg/envelope";
import { envelopeKey, type KeyPair, newKeyPair, pairKey } from "@tutti/secagg/keys";
import { SHARE_BYTES } from "@tutti/secagg/shares";
import { advertiseStatement } from "@tutti/secagg/statement";
import { create } from "@tutti/wire/message";
import {
  type Advertisement,
  AdvertisementSchema,
  type Envelope,
  EnvelopeSchema,
  type Terms,
} from "@tutti/wire/secagg";
import { type Papers, random } from "./world.ts";

/**
 * A device in the attacker's hands, or one that never was: its session keys are known, it checks nothing, and
 * what it shares of its own is noise, since nobody needs to ask for it.
 */
export class Corrupt {
  readonly name: string;
  readonly papers: Papers;
  readonly envelopes: KeyPair;
  readonly masks: KeyPair;
  /** What it seals as a share may be of any length. */
  shareBytes = SHARE_BYTES;

  constructor(papers: Papers, keys: { envelopes?: KeyPair; masks?: KeyPair } = {}) {
    this.name = papers.name;
    this.papers = papers;
    this.envelopes = keys.envelopes ?? newKeyPair(random);
    this.masks = keys.masks ?? newKeyPair(random);
  }

  advertisement(terms: Terms): Advertisement {
    const { key, certificate } = this.papers;
    const keys = { envelopeKey: this.envelopes.publicKey, maskKey: this.masks.publicKey };
    const signature = key.sign(advertiseStatement(terms, keys));
    return create(AdvertisementSchema, { certificate, ...keys, signature });
  }

  /** An envelope to `to`, as honest devices expect one. */
  envelopeTo(to: string, theirs: Advertisement, sid: Uint8Array): Envelope {
    const { shareBytes } = this;
    const shares = { maskKeyShare: random.bytes(shareBytes), seedShare: random.bytes(shareBytes) };
    const key = envelopeKey(this.agreed(this.envelopes, theirs.envelopeKey), sid, { from: this.name, to });
    const sealed = seal(key, { from: this.name, to, ...shares });
    return create(EnvelopeSchema, { from: this.name, to, sealed });
  }

  /** Both shares of `from`'s secrets: what an honest holder would give one of. */
  sharesIn({ from, to, sealed }: Envelope, theirs: Advertisement, sid: Uint8Array): Shares {
    const key = envelopeKey(this.agreed(this.envelopes, theirs.envelopeKey), sid, { from, to });
    const shares = open(key, sealed, { from, to });
    if (!shares) throw new Error(`the envelope from ${from} to ${to} does not open`);
    return shares;
  }

  /** The key of the mask it shares with another. */
  pairWith(name: string, theirs: Advertisement, sid: Uint8Array): Uint8Array {
    return pairKey(this.agreed(this.masks, theirs.maskKey), sid, [this.name, name]);
  }

  /** All zeros for a point of small order, where OpenSSL throws. */
  agreed({ secretKey }: KeyPair, theirs: Uint8Array): Uint8Array {
    return agreedWith(secretKey, theirs);
  }
}

export function agreedWith(secretKey: Uint8Array, theirs: Uint8Array): Uint8Array {
  try {
    return nativeAgree(secretKey, theirs);
  } catch {
    return new Uint8Array(32);
  }
}
