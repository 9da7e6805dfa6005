// The picture: its layers one above the other, where it lies in the view, and the border between before and restored.
// Strength and texture are opacities of layers, so they move without any computation.

import * as server from "./server.js";

const at = (id) => document.getElementById(id);
const view = at("view"), scene = at("scene"), after = at("after"), divider = at("divider"), split = at("split");
const canvases = Object.fromEntries(["before", "restored", "texture", "clean"].map((name) => [name, at(name)]));
const CHUNK = 1024;

export const place = { zoom: 1, left: 0, top: 0, width: 0, height: 0, scale: 1, mode: "fit" };
let picture = null;
let showing = 0; // counts up: what was fetched for another picture is dropped
let fresh = []; // parts that are restored and not drawn yet
let drawing = false;

// Show a picture: {number, width, height, scale, places: what is restored of it so far, finished, clean}.
export async function show(next) {
  picture = next;
  fresh = [];
  const mine = ++showing;
  scene.hidden = at("splitting").hidden = at("tools").hidden = !picture;
  at("empty").hidden = Boolean(picture);
  if (!picture) return;
  resize(picture.scale);
  empty("clean");
  canvases.before.width = picture.width;
  canvases.before.height = picture.height;
  fit();
  await load("before", mine);
  if (picture.finished) {
    await load("restored", mine);
    await load("texture", mine);
  } else {
    // Not as a whole: what is not restored yet would be black.
    fresh = picture.places.reduce(joined, fresh);
    await drawFresh();
  }
  if (picture.clean) await load("clean", mine);
}

// Forget what is restored; from now on it is `scale` times as large as the picture.
export function begin(scale) {
  picture.scale = scale;
  fresh = [];
  if (scale !== place.scale) {
    resize(scale);
    fit();
  }
  empty("restored");
  empty("texture");
  canvases.before.hidden = false;
}

function resize(scale) {
  Object.assign(place, { scale, width: picture.width * scale, height: picture.height * scale });
  for (const name of ["restored", "texture"]) empty(name);
  scene.style.width = `${place.width}px`;
  scene.style.height = `${place.height}px`;
  at("marks").setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
}

function empty(name) {
  canvases[name].width = place.width; // also clears it
  canvases[name].height = place.height;
}

// Parts {top, left, height, width} and one more; it grows the newest of them if both together are a rectangle.
export function joined(parts, { top, left, height, width }) {
  const last = parts.at(-1);
  const beside = last && last.top === top && last.height === height && left >= last.left && left <= last.left + last.width;
  const below = last && last.left === left && last.width === width && top >= last.top && top <= last.top + last.height;
  if (!beside && !below) return [...parts, { top, left, height, width }];
  const right = Math.max(last.left + last.width, left + width), bottom = Math.max(last.top + last.height, top + height);
  return joined(parts.slice(0, -1), { ...last, height: bottom - last.top, width: right - last.left });
}

// Draw a part that has been restored.
export function restored(part) {
  fresh = joined(fresh, part);
  return drawFresh();
}

// Tiles may come faster than they are drawn: there is one request at a time, for all that came while the one before was
// answered, so that what else the page asks for never waits behind thousands of them.
async function drawFresh() {
  if (drawing) return;
  drawing = true;
  while (fresh.length) await draw("restored", fresh.shift()).catch(() => {});
  drawing = false;
}

// Fetch a part of a layer, piece by piece, and draw it.
async function draw(name, { top, left, height, width }, mine = showing) {
  for (let y = top; y < top + height; y += CHUNK) {
    for (let x = left; x < left + width; x += CHUNK) {
      if (mine !== showing) return;
      const piece = { top: y, left: x, height: Math.min(CHUNK, top + height - y), width: Math.min(CHUNK, left + width - x) };
      const bitmap = await server.layer(picture.number, name, piece);
      if (mine === showing) canvases[name].getContext("2d").drawImage(bitmap, x, y);
      bitmap.close();
    }
  }
}

export const loadRest = (name) => load(name, showing);

function load(name, mine) {
  if (name === "clean") empty(name);
  const { width, height } = canvases[name];
  return draw(name, { top: 0, left: 0, height, width }, mine);
}

// A tile that another k gives, on the restored picture until it is restored anew.
export function drawTry(image, left, top) {
  canvases.restored.getContext("2d").drawImage(image, left, top);
}

export function amounts(strength, texture) {
  after.style.opacity = strength;
  canvases.texture.style.opacity = texture;
}

// Distance to the clean picture instead of the picture; null shows the picture.
export function error(gain) {
  canvases.clean.hidden = gain === null;
  at("layers").classList.toggle("error", gain !== null);
  at("layers").style.filter = gain === null ? "" : `brightness(${gain})`;
}

export function centre() {
  return toPicture(view.clientWidth / 2, view.clientHeight / 2);
}

// Pixel of the picture as it was dropped, at a point of the view.
function toPicture(x, y) {
  const inside = (value, most) => Math.min(Math.max(Math.floor(value / place.zoom / place.scale), 0), most - 1);
  return { x: inside(x - place.left, picture.width), y: inside(y - place.top, picture.height) };
}

export function pixelAt(event) {
  const box = view.getBoundingClientRect();
  return toPicture(event.clientX - box.left, event.clientY - box.top);
}

export function fit() {
  place.mode = "fit";
  const zoom = Math.min(view.clientWidth / place.width, view.clientHeight / place.height, 4 / devicePixelRatio);
  Object.assign(place, {
    zoom, left: (view.clientWidth - place.width * zoom) / 2, top: (view.clientHeight - place.height * zoom) / 2,
  });
  lay();
}

// Pixels of the screen for each pixel of the restored picture, about a point of the view.
export function zoomTo(pixels, x = view.clientWidth / 2, y = view.clientHeight / 2) {
  const zoom = Math.min(Math.max(pixels / devicePixelRatio, 0.02), 16);
  place.mode = pixels;
  move(x - (x - place.left) * (zoom / place.zoom) - place.left, y - (y - place.top) * (zoom / place.zoom) - place.top, zoom);
}

export function move(across, down, zoom = place.zoom) {
  place.zoom = zoom;
  const keep = (start, size, room) => {
    const slack = room - size * zoom;
    return slack >= 0 ? slack / 2 : Math.min(Math.max(start, slack), 0);
  };
  place.left = keep(place.left + across, place.width, view.clientWidth);
  place.top = keep(place.top + down, place.height, view.clientHeight);
  lay();
}

function lay() {
  scene.style.transform = `translate(${place.left}px, ${place.top}px) scale(${place.zoom})`;
  scene.style.setProperty("--zoom", place.zoom);
  scene.classList.toggle("near", place.zoom * devicePixelRatio >= 1.99);
  const x = (split.value / 100) * view.clientWidth;
  divider.style.left = `${x}px`;
  after.style.clipPath = `inset(0 0 0 ${Math.max((x - place.left) / place.zoom, 0)}px)`;
  split.setAttribute("aria-valuetext", `${split.value} % before, ${100 - split.value} % restored`);
  const pressed = { fit: place.mode === "fit", one: place.mode === 1, four: place.mode === 4 };
  for (const [id, is] of Object.entries(pressed)) at(id).setAttribute("aria-pressed", is);
}

split.oninput = lay;
at("fit").onclick = fit;
at("one").onclick = () => zoomTo(1);
at("four").onclick = () => zoomTo(4);
new ResizeObserver(() => picture && (place.mode === "fit" ? fit() : move(0, 0))).observe(view);

divider.onpointerdown = (event) => {
  event.stopPropagation();
  divider.setPointerCapture(event.pointerId);
};
divider.onpointermove = (event) => {
  if (!divider.hasPointerCapture(event.pointerId)) return;
  event.stopPropagation();
  const box = view.getBoundingClientRect();
  split.value = ((event.clientX - box.left) / box.width) * 100;
  lay();
};

// Fingers and mouse: one moves the picture, two zoom.
const pointers = new Map();
export let dragged = 0; // pixels since it was pressed
view.onpointerdown = (event) => {
  if (!picture) return;
  dragged = 0;
  pointers.set(event.pointerId, event);
  view.setPointerCapture(event.pointerId);
};
view.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const others = [...pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
  pointers.set(event.pointerId, event);
  dragged += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
  if (others.length === 0) return move(event.clientX - before.clientX, event.clientY - before.clientY);
  const away = (from) => Math.hypot(from.clientX - others[0].clientX, from.clientY - others[0].clientY) || 1;
  const box = view.getBoundingClientRect();
  zoomTo((place.zoom * devicePixelRatio * away(event)) / away(before), event.clientX - box.left, event.clientY - box.top);
});
view.onpointerup = view.onpointercancel = (event) => pointers.delete(event.pointerId);
view.addEventListener("wheel", (event) => {
  if (!picture) return;
  event.preventDefault();
  const box = view.getBoundingClientRect();
  zoomTo(place.zoom * devicePixelRatio * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
