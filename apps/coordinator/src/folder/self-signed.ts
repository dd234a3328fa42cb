// Loaded only where a certificate is made. Once it is bundled (tools/bundle.ts), a package of CommonJS has its
// names for `import` statements alone.
export { generate } from "selfsigned";
