// A site as a process: node --import tsx site.ts '<SiteArgs as JSON>'.
import { writeFile } from "node:fs/promises";
import { asChild, die } from "./child.ts";
import { openWatched } from "./device.ts";
import { truthFile, uploadFile } from "./files.ts";
import type { Stage } from "./link.ts";
import { cloudsAt, type Rows } from "./recipe.ts";
import type { Truth } from "./truth.ts";

export type SiteArgs = {
  readonly name: string;
  readonly folder: string;
  readonly rows: Rows;
  /** Uploads wait for the claim's word, so that it decides their order. */
  readonly inTurn: boolean;
};

/** Where a site ends itself: beside one of its messages, or in the midst of training. */
export type Death = {
  readonly stage: Stage | "training";
  readonly when: "before" | "after";
};

export type SiteSaid =
  | { readonly kind: "connected" }
  | { readonly kind: "armed" }
  | { readonly kind: "wants-turn" }
  | { readonly kind: "sends"; readonly stage: Stage }
  | { readonly kind: "acknowledged"; readonly stage: Stage }
  | { readonly kind: "refused"; readonly because: string };

export type SiteTold = { readonly kind: "die"; readonly at: Death } | { readonly kind: "turn" };

let death: Death | null = null;
let takeTurn = () => {};

const [args, say] = asChild<SiteArgs, SiteSaid, SiteTold>((word) => {
  if (word.kind === "turn") return takeTurn();
  death = word.at;
  say({ kind: "armed" });
});

const dieAt = async (stage: Death["stage"], when: Death["when"]) => {
  if (death?.stage === stage && death.when === when) await die();
};

let uploads = 0;
/** One turn per vector: what is sent again after a loss keeps the turn it had. */
let last = "";

async function awaitTurn(packed: Uint8Array): Promise<void> {
  const key = Buffer.from(packed).toString("base64");
  if (key === last) return;
  last = key;
  await writeFile(uploadFile(args.folder, uploads++), packed);
  if (!args.inTurn) return;
  const turn = new Promise<void>((resolve) => {
    takeTurn = resolve;
  });
  say({ kind: "wants-turn" });
  await turn;
}

const device = await openWatched({
  folder: args.folder,
  data: cloudsAt(args.name, args.rows),
  watch: {
    before: async (stage) => {
      await dieAt(stage, "before");
      say({ kind: "sends", stage });
    },
    after: async (stage) => {
      say({ kind: "acknowledged", stage });
      await dieAt(stage, "after");
    },
    uploads: awaitTurn,
  },
  events: (event) => {
    if (event.kind === "state" && event.state === "connected") say({ kind: "connected" });
    if (event.kind === "refused") say({ kind: "refused", because: event.because.message });
    if (event.kind === "activity" && event.activity === "training" && event.progress >= 0.5)
      void dieAt("training", "after");
  },
  onTruth: (truth: Truth) => writeFile(truthFile(args.folder, truth.run), JSON.stringify(truth)),
});
await device.participate({ once: false });
