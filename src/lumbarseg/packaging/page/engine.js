// The worker that answers exams: it reads, prepares, asks the network workers, names and paints.

import { answer, look } from "./look.js";
import { measure } from "./measure.js";
import { read, unpacked, write } from "./nifti.js";
import { Refusal } from "./volume.js";

class Cancelled extends Error {}

let card = null;
let network = null;
let seen = null; // the last exam as the network saw it, with its grid
let wanted = 0; // number of the exam that is wanted; another number cancels

/** The network workers as one: each window goes to one that is free. What a cancelled exam still asked comes first. */
class Network {
  constructor(ports) {
    this.many = ports.length;
    this.free = [...ports];
    this.waiting = [];
  }

  async look(window) {
    const port = this.free.shift() ?? (await new Promise((resolve) => this.waiting.push(resolve)));
    const told = await new Promise((resolve) => {
      port.onmessage = ({ data }) => resolve(data);
      port.postMessage(window, [window.array.buffer]);
    });
    const next = this.waiting.shift();
    if (next) next(port);
    else this.free.push(port);
    if (told.error) throw new Error(told.error);
    return told.found;
  }
}

const pause = () => new Promise((resolve) => setTimeout(resolve)); // lets a message to cancel through

async function open({ bytes, name, number }) {
  wanted = number;
  const tell = async (stage, share) => {
    self.postMessage({ kind: "progress", stage, share, number });
    await pause();
    if (wanted !== number) throw new Cancelled();
  };
  await tell("reading the exam", 0);
  const volume = read(await unpacked(new Uint8Array(bytes), name), name);
  const { shape, affine, notes } = volume;
  seen = null;
  const found = await look(volume, card, network, tell);
  seen = { found, shape, affine, notes };
  give(number, null, null);
}

/** Post the answer under the names that the user told. */
function give(number, lowest, pinned) {
  const { found, shape, affine, notes } = seen;
  const { labels, ...told } = answer(found, lowest, pinned);
  const { rows: measurements, lordosis } = measure(labels, shape, affine);
  const file = write(labels, shape, affine);
  const facts = { ...told, notes: [...notes, ...told.notes], measurements, lordosis, bodyless: found.found.bodyless };
  self.postMessage({ kind: "answer", number, file: file.buffer, facts }, [file.buffer]);
}

const deeds = {
  start: (message) => {
    card = message.card;
    network = new Network(message.ports);
  },
  open,
  rename: ({ number, lowest, pinned }) => give(number, lowest, pinned),
  cancel: () => (wanted = 0),
};

self.onmessage = async ({ data }) => {
  try {
    await deeds[data.kind](data);
  } catch (error) {
    const kind = error instanceof Cancelled ? "cancelled" : "refused";
    const memory = error instanceof RangeError ? "the exam is too large for this browser; use the command on it" : null;
    const said = error instanceof Refusal ? error.message : (memory ?? `a fault of this page: ${error.message ?? error}`);
    self.postMessage({ kind, number: data.number, message: said });
  }
};
