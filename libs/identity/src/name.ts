/** What a party may be called in a certificate. Whatever else is said for a name, nobody has it. */
export const NAME = /^[A-Za-z0-9._-]{1,64}$/;
