export { type BrowserParts, browserEngine } from "./engine.ts";
