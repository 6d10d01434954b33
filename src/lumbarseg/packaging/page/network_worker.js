// A worker that runs the network on one window at a time. The script of onnxruntime-web precedes this one.
/* global ort */

import { toProbabilities } from "./predictor.js";

let session = null;
let bias = null;

async function startSession({ wasm, glue, model, port, bias: cardBias }) {
  ort.env.wasm.numThreads = 1; // pages opened from disk have no shared memory; several workers run instead
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  bias = cardBias;
  port.onmessage = ({ data }) => inferWindow(data);
}

async function inferWindow({ window, reply }) {
  try {
    const { array, channels, rows, columns } = window;
    const input = new ort.Tensor("float32", array, [1, channels, rows, columns]);
    const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
    const probabilities = toProbabilities(output.data, window, bias);
    input.dispose();
    output.dispose();
    reply.postMessage({ probabilities }, [probabilities.buffer]);
  } catch (error) {
    reply.postMessage({ error: String(error.message ?? error) });
  }
}

self.onmessage = async ({ data }) => {
  try {
    await startSession(data);
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ error: String(error.message ?? error) });
  }
};
