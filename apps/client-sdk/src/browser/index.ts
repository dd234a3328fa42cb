export { browserAgree } from "./agree.ts";
export { type BrowserParts, browserEngine } from "./engine.ts";
export { browserVerify } from "./verify.ts";
