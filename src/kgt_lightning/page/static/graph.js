// The Key-Graph under the mouse: neighbours of a patch light up, in the picture and in a small panel for every stage.

import * as server from "./server.js";

const at = (id) => document.getElementById(id);
const marks = at("marks"), panels = at("panels"), before = at("before");
const PANEL = 220;

let stages = [];
let chosen = 0; // stage that lights up in the picture
let asked = null; // the newest point; what is answered for another one is dropped
let busy = false;
let point = null;

export const held = { is: false };
export const current = () => point;

export function clear() {
  stages = [];
  point = asked = null;
  held.is = false;
  marks.setAttribute("hidden", "");
  panels.replaceChildren();
}

// Look at a point {x, y} of a picture; facts are model and k.
export async function look(picture, to, facts) {
  point = to;
  asked = { picture, to, facts };
  if (busy) return;
  busy = true;
  try {
    while (asked) {
      const now = asked;
      asked = null;
      const answer = await server.neighbours(now.picture.number, { ...now.facts, ...now.to });
      if (point) drawAll(now.picture, answer.stages);
    }
  } catch (error) {
    at("graph-says").textContent = error.message;
  } finally {
    busy = false;
  }
}

// The point one node further.
export function step(picture, across, down) {
  const cell = stages[chosen]?.cell ?? 1;
  const from = point ?? { x: picture.width >> 1, y: picture.height >> 1 };
  const inside = (value, most) => Math.min(Math.max(value, 0), most - 1);
  return { x: inside(from.x + across * cell, picture.width), y: inside(from.y + down * cell, picture.height) };
}

function drawAll(picture, found) {
  stages = found;
  chosen = Math.min(chosen, stages.length - 1);
  if (panels.children.length !== stages.length) panels.replaceChildren(...stages.map((_, number) => panel(picture, number)));
  stages.forEach((stage, number) => drawPanel(panels.children[number], stage, number));
  const told = stages.map((stage, number) => `stage ${number + 1}: ${stage.neighbours.length} at ${stage.away} pixels`);
  at("graph-says").textContent = `Patch at ${stages[0].node.join(", ")}. Neighbours and their mean distance, ${told.join("; ")}.`;
  light(picture);
}

function panel(picture, number) {
  const button = document.createElement("button");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = PANEL;
  button.append(canvas, document.createElement("span"));
  button.onclick = () => {
    chosen = number;
    stages.forEach((stage, other) => drawPanel(panels.children[other], stage, other));
    light(picture);
  };
  return button;
}

// The window of a stage, dark but for the neighbours.
function drawPanel(button, stage, number) {
  const [left, top, side] = stage.window, zoom = PANEL / side, cell = Math.ceil(stage.cell * zoom);
  const paint = button.firstChild.getContext("2d");
  const on = ([x, y]) => [Math.round((x - left) * zoom), Math.round((y - top) * zoom), cell, cell];
  paint.imageSmoothingEnabled = false;
  paint.fillStyle = "#000";
  paint.fillRect(0, 0, PANEL, PANEL);
  paint.globalAlpha = 0.35;
  paint.drawImage(before, left, top, side, side, 0, 0, PANEL, PANEL);
  paint.globalAlpha = 1;
  paint.save();
  paint.beginPath();
  for (const neighbour of stage.neighbours) paint.rect(...on(neighbour));
  paint.clip();
  paint.drawImage(before, left, top, side, side, 0, 0, PANEL, PANEL);
  paint.restore();
  paint.strokeStyle = "#ffb000";
  paint.lineWidth = 3;
  paint.strokeRect(...on(stage.node));
  button.lastChild.textContent = `Stage ${number + 1}: ${stage.neighbours.length}, ${stage.away} px`;
  button.setAttribute("aria-pressed", number === chosen);
}

// The picture dark but for the neighbours in the chosen stage.
function light(picture) {
  const { cell, node, window: [left, top, side], neighbours } = stages[chosen];
  const box = (x, y, wide, tall) => `M${x} ${y}h${wide}v${tall}h${-wide}z`;
  at("dark").setAttribute("d", box(0, 0, picture.width, picture.height) + neighbours.map(([x, y]) => box(x, y, cell, cell)).join(""));
  for (const [id, x, y, wide] of [["window", left, top, side], ["node", ...node, cell]]) {
    for (const [name, value] of Object.entries({ x, y, width: wide, height: wide })) at(id).setAttribute(name, value);
  }
  marks.removeAttribute("hidden");
}
