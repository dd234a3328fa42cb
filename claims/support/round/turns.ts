import type { House } from "./house.ts";

export type Turns = {
  /** Calls once, when this many uploads were acknowledged to their sites. */
  onAcknowledged(uploads: number, act: () => void): void;
};

/** Lets one site at a time upload: the next one when the last one's upload was acknowledged. */
export function takeTurns(house: Pick<House, "sites" | "onSite">): Turns {
  const waiting: string[] = [];
  let uploading = false;
  let acknowledged = 0;
  let due: { uploads: number; act: () => void } | null = null;
  const next = () => {
    const site = uploading ? undefined : waiting.shift();
    if (site === undefined) return;
    uploading = true;
    house.sites.get(site)?.tell({ kind: "turn" });
  };
  house.onSite = (site, said) => {
    if (said.kind === "wants-turn") waiting.push(site);
    if (said.kind === "acknowledged" && said.stage === "upload") {
      uploading = false;
      acknowledged++;
      // Before the next site has its turn, so that exactly so many uploads came before it.
      if (due?.uploads === acknowledged) due.act();
    }
    next();
  };
  return {
    onAcknowledged: (uploads, act) => {
      due = { uploads, act };
    },
  };
}
