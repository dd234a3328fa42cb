/** What a coordinator writes down: see proto/tutti/v1/journal.proto. */
export {
  type JournalEntry,
  JournalEntrySchema,
  type RunHeader,
  RunHeaderSchema,
} from "./gen/tutti/v1/journal_pb.js";
