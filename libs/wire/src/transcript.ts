/** What is signed about a round with a secure sum: see proto/tutti/v1/transcript.proto. */
export {
  type CohortTranscript,
  CohortTranscriptSchema,
  type PrivacySpent,
  PrivacySpentSchema,
  type Transcript,
  TranscriptSchema,
} from "./gen/tutti/v1/transcript_pb.js";
