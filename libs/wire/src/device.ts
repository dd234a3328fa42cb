/** Who is who: see proto/tutti/v1/device.proto. */
export {
  type Ack,
  AckSchema,
  type Certificate,
  type CertificateBody,
  CertificateBodySchema,
  CertificateSchema,
  type EnrollReply,
  EnrollReplySchema,
  type EnrollRequest,
  EnrollRequestSchema,
  type HelloReply,
  HelloReplySchema,
  type HelloRequest,
  HelloRequestSchema,
  type RequestAuth,
  RequestAuthSchema,
} from "./gen/tutti/v1/device_pb.js";
