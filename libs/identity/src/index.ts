// For users.
// For neighbours: import the file, not this index.
export { bind, type Identity, issue, type Role, type Statement, verifyCertificate } from "./certificate.ts";
export { newSeed, type SigningKey, signingKey, type Verify, verify } from "./keys.ts";
export { signRequest, verifyRequest } from "./request.ts";
