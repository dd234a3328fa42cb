/** Digests and ids are recognised by so much; a key or a seed is not given away by it. */
const HEX_SHOWN = 12;

/**
 * A text without what might be secret in it: passwords of URLs, private keys, and long runs of hex or base64.
 * The log's callers pass none of these; an error's message, from a database say, may.
 */
export function redact(text: string): string {
  return text
    .replace(/-----BEGIN [A-Z ]{1,40}-----[^-]*(-----END [A-Z ]{1,40}-----)?/g, "[PEM]")
    .replace(/([a-z][a-z0-9+.-]{0,20}:\/\/[^\s/:@]{0,256}):[^\s/]{0,1024}@/gi, "$1:…@")
    .replace(/\b(password|passwd|pwd|secret|token)(["']?\s?[=:]\s?)[^\s,;]+/gi, "$1$2…")
    .replace(/[0-9a-f]{32,}/gi, (run) => `${run.slice(0, HEX_SHOWN)}…`)
    .replace(/[A-Za-z0-9+/]{40,}={0,2}/g, (run) => (isBase64(run) ? `${run.slice(0, 4)}…` : run));
}

/** Paths have the same letters; 30 random bytes without a capital, a small letter or a digit are rare. */
function isBase64(run: string): boolean {
  return /[a-z]/.test(run) && /[A-Z]/.test(run) && /[0-9]/.test(run);
}
