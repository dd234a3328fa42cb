// For neighbours: import the file, not this index.
export { openEnvelope, pae, type Signer, signEnvelope, type Trust } from "./dsse.ts";
export { envelopeFromJson, envelopeJson } from "./envelope-json.ts";
export { accept } from "./lineage.ts";
export {
  type Artifact,
  checkArtifact,
  type OpenedRelease,
  openRelease,
  type Release,
  releaseOf,
  signRelease,
} from "./manifest.ts";
export { type OpenedPlan, openPlan, signPlan } from "./plan.ts";
