// `npm run claim` lists the claims; `npm run -s claim -- <name>` runs one.
import { register } from "tsx/esm/api";

register();
await import("./main.ts");
