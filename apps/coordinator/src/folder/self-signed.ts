// Loaded only where a certificate is made. A package of CommonJS that was bundled (tools/bundle.ts) has its
// names for `import` statements alone.
export { generate } from "selfsigned";
