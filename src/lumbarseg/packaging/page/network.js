// A worker that holds the network and looks at one window at a time. onnxruntime-web stands before this in its source.
/* global ort */

import { probabilities } from "./window.js";

let session = null;
let bias = null;

async function start({ wasm, glue, model, port, bias: given }) {
  ort.env.wasm.numThreads = 1; // a page from the disk has no shared memory; there are several such workers instead
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  bias = given;
  port.onmessage = ({ data }) => answer(port, data);
}

async function answer(port, window) {
  try {
    const { array, channels, rows, columns } = window;
    const input = new ort.Tensor("float32", array, [1, channels, rows, columns]);
    const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
    const found = probabilities(output.data, window, bias);
    input.dispose();
    output.dispose();
    port.postMessage({ found }, [found.buffer]);
  } catch (error) {
    port.postMessage({ error: String(error.message ?? error) });
  }
}

self.onmessage = async ({ data }) => {
  try {
    await start(data);
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ error: String(error.message ?? error) });
  }
};
