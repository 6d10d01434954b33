// A worker that runs the network on one window at a time. The script of onnxruntime-web precedes this one.
/* global ort */

import { expose, transfer } from "comlink";
import { toProbabilities } from "./predictor.js";

let session = null;
let bias = null;

expose({
  /** Start the network. wasm, model: bytes; glue: the script that loads the WebAssembly program. */
  async start(wasm, glue, model, cardBias) {
    ort.env.wasm.numThreads = 1; // pages opened from disk have no shared memory; several workers run instead
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
    bias = cardBias;
  },

  /** Return the probabilities of a window from `extractWindow`. */
  async infer(window) {
    const { array, channels, rows, columns } = window;
    const input = new ort.Tensor("float32", array, [1, channels, rows, columns]);
    const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
    const probabilities = toProbabilities(output.data, window, bias);
    input.dispose();
    output.dispose();
    return transfer(probabilities, [probabilities.buffer]);
  },
});
