export { browserAgree } from "./agree.ts";
export { type BrowserParts, browserEngine } from "./engine.ts";
export { browserState } from "./state.ts";
export { browserVerify } from "./verify.ts";
