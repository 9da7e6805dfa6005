// The model that is chosen, and how many neighbours k each patch looks at.

import * as server from "./server.js";
import * as viewer from "./viewer.js";
import * as graph from "./graph.js";

const at = (id) => document.getElementById(id);
const known = new Map();

export function offer(names) {
  at("model").replaceChildren(...names.map((name) => new Option(name, name)));
}

// Take the chosen model; whether it has a Key-Graph.
export async function choose() {
  const name = at("model").value;
  if (!known.has(name)) known.set(name, await server.model(name));
  const { k: usual, most_k: most } = known.get(name);
  at("k-part").hidden = at("graph").hidden = usual === null;
  if (usual === null) return false;
  const steps = at("k");
  steps.max = Math.log2(most);
  steps.value = Math.log2(usual);
  steps.step = Number.isInteger(Math.log2(most)) && Number.isInteger(Math.log2(usual)) ? 1 : "any";
  moves();
  at("cost").textContent = `${name} was trained with k = ${usual}.`;
  return true;
}

const k = () => Math.round(2 ** at("k").value);

// What requests have to know.
export function facts() {
  const model = at("model").value;
  return known.get(model)?.k === null ? { model } : { model, k: k() };
}

function moves() {
  at("k-says").textContent = k();
  at("k").setAttribute("aria-valuetext", k());
}
at("k").oninput = moves;

// Say what k costs on a tile of the picture, and show the tile; `shown` gives the picture that is shown.
export async function tryK(picture, shown, withGraph) {
  const of = facts();
  at("cost").textContent = "Trying it on the tile in the middle ...";
  try {
    const found = await server.cost(picture.number, { ...of, ...(graph.current() ?? viewer.centre()) });
    if (picture !== shown() || of.k !== k()) return;
    const share = Math.round((found.seconds / found.usual_seconds) * 100);
    at("cost").textContent = found.k === found.usual_k ? `The model was trained with k = ${found.k}: ${found.seconds.toFixed(2)} s a tile.`
      : `${found.seconds.toFixed(2)} s a tile, ${share} % of that with k = ${found.usual_k}; the picture changes by ${found.difference.toFixed(2)} of 255 (RMS). Shown on one tile until it is restored again.`;
    if (picture.finished) {
      const tile = new Image();
      tile.onload = () => picture === shown() && viewer.drawTry(tile, found.left, found.top);
      tile.src = found.png;
    }
  } catch (error) {
    at("cost").textContent = error.message;
  }
  if (withGraph && graph.current()) graph.look(picture, graph.current(), of);
}
