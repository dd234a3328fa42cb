/** Signed statements: see proto/tutti/v1/release.proto. */
export {
  type EnvelopeSignature,
  EnvelopeSignatureSchema,
  type SignedEnvelope,
  SignedEnvelopeSchema,
} from "./gen/tutti/v1/release_pb.js";
