/** tfjs as we see it: its types only, so that this library pulls in no backend and the app brings its own. */
export type Tf = typeof import("@tensorflow/tfjs-core");
export type { DataTypeMap, Tensor as TfTensor } from "@tensorflow/tfjs-core";

import type { Tensor as TfTensor } from "@tensorflow/tfjs-core";

/** What a node does at run time: input tensors in, output tensors out. An absent input is undefined. */
export type Kernel = (...inputs: TfTensor[]) => TfTensor | readonly TfTensor[];
