export { mask } from "./chacha20";
export { hadamard } from "./hadamard";
export { A, B, END, KEY, PIECE_WORDS } from "./memory";
export { quantise } from "./quantise";
export { add, addUnpacked, pack } from "./words";
