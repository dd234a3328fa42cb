import { same } from "../rule.ts";

export const Gelu = same;
export const QuickGelu = same;
