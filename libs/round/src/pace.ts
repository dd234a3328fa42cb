/*
 * Pace steering (Bonawitz et al., "Towards Federated Learning at Scale", MLSys 2019, section 2.3): every
 * answer says when to come again, so that devices come neither all at once nor more often than they are of
 * use.
 */

/** When to come again, in milliseconds from now; a device draws a moment in it evenly. */
export type Window = { readonly minMs: number; readonly maxMs: number };

/**
 * The window in which `devices` come at `perS` a second at most: from a third of it on, so that this holds
 * both for each coming once and for each coming again and again. Once: they are spread over 2/3 of it. Again
 * and again: one comes every 2/3 of it on average. Never narrower than `leastMs`, where they are few; two
 * digits, so that a thousand devices are told few different ones.
 */
export function windowFor(devices: number, { perS, leastMs }: { perS: number; leastMs: number }): Window {
  const wantMs = Math.max(leastMs, (1500 * devices) / perS);
  const step = 10 ** Math.max(0, Math.floor(Math.log10(wantMs)) - 1);
  const maxMs = Math.ceil(wantMs / step) * step;
  return { minMs: Math.ceil(maxMs / 3), maxMs };
}
