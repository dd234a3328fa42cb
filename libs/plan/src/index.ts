export { type Plan, parsePlan, parseRunFile, planBytes, type RunFile } from "./plan.ts";
