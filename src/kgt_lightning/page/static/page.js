// The page: pictures come in, are restored in a queue, looked at, adjusted and kept.

import * as server from "./server.js";
import * as viewer from "./viewer.js";
import * as graph from "./graph.js";
import * as models from "./models.js";

const at = (id) => document.getElementById(id);
const view = at("view"), list = at("pictures");
const pictures = new Map(); // by number; coming ones by their list item
let shown = null;
let mode = "compare";
let limits = {};

const say = (text) => { at("says").textContent = text; };
const named = (picture, state) => { picture.state.textContent = state; };
const seconds = (value) => value < 90 ? `${Math.max(Math.round(value), 1)} s` : `${Math.round(value / 60)} min`;

server.listen({
  hello: (event) => {
    limits = event.limits;
    at("files").accept = at("clean-file").accept = event.suffixes.join();
    models.offer(event.models);
    choose();
  },
  gone: (reason) => {
    at("gone").textContent = reason;
    at("gone").hidden = false;
  },
  waiting: (event) => told(event, (picture) => named(picture, `waiting, ${event.place} before it`)),
  started: (event) => told(event, (picture) => {
    Object.assign(picture, { scale: event.scale, parts: 0, places: [], finished: false, at: 0 });
    if (picture === shown) viewer.begin(event.scale);
    named(picture, `${event.model} has begun`);
    picture.bar.hidden = false;
    picture.bar.removeAttribute("value");
    buttons(picture);
  }),
  tile: (event) => told(event, (picture) => {
    progress(picture, event);
    picture.places = viewer.joined(picture.places, event);
    if (picture === shown) viewer.restored(event);
  }),
  opacity: (event) => told(event, (picture) => progress(picture, event)),
  rows: (event) => told(event, (picture) => {
    // Whole rows take the place of the tiles that they were blended from.
    picture.places = [{ top: 0, left: 0, height: event.top + event.height, width: event.width }];
    if (picture === shown) viewer.restored(event);
  }),
  finished: (event) => told(event, (picture) => {
    picture.finished = true;
    ended(picture, `restored in ${seconds(event.seconds)}${event.limit ? `; a JPEG file: ${event.limit}` : ""}`);
    if (picture === shown) viewer.loadRest("texture").catch(() => {});
  }),
  cancelled: (event) => told(event, (picture) => ended(picture, "cancelled")),
  failed: (event) => told(event, (picture) => {
    picture.item.classList.add("bad");
    ended(picture, event.reason);
  }),
});

function told(event, then) {
  const picture = pictures.get(event.picture);
  if (picture) then(picture);
}

function progress(picture, event) {
  picture.parts = event.done;
  picture.bar.max = event.parts;
  picture.bar.value = event.done;
  const left = event.done < event.parts ? `, ${seconds(event.left_seconds)} left` : "";
  named(picture, `${event.done} of ${event.parts} tiles${left}`);
  if (event.done / event.parts < picture.at) return;
  say(`${picture.name}: ${picture.state.textContent}`);
  picture.at += 0.25;
}

function ended(picture, state) {
  named(picture, state);
  picture.bar.hidden = true;
  picture.running = false;
  say(`${picture.name}: ${state}`);
  buttons(picture);
}

// Pictures that were dropped or chosen.
async function take(files) {
  for (const file of files) {
    const picture = { name: file.name, ...entry(file.name) };
    list.append(picture.item);
    try {
      if (file.size > limits.megabytes * 1e6) throw new Error(`the file has ${Math.round(file.size / 1e6)} MB, at most ${limits.megabytes} are taken`);
      named(picture, "being read");
      Object.assign(picture, await server.add(file), { scale: 1, parts: 0, places: [], finished: false });
      pictures.set(picture.number, picture);
      named(picture, `${picture.width} x ${picture.height} pixels`);
      if (!shown) await select(picture, false);
      await start(picture);
    } catch (error) {
      picture.item.classList.add("bad");
      named(picture, error.message);
      say(`${file.name}: ${error.message}`);
    }
    buttons(picture);
  }
}

function entry(name) {
  const item = document.createElement("li");
  const make = (kind, facts) => item.appendChild(Object.assign(document.createElement(kind), facts));
  const title = make("button", { className: "name", textContent: name, title: name });
  const act = make("button", { className: "act", textContent: "Remove" });
  const state = make("span", { className: "state" });
  const bar = make("progress", { hidden: true });
  bar.setAttribute("aria-label", `Progress of ${name}`);
  const made = { item, title, act, state, bar, running: false };
  title.onclick = () => select(byItem(item));
  act.onclick = () => (byItem(item)?.running ? stop(byItem(item)) : forget(byItem(item), item));
  return made;
}

const byItem = (item) => [...pictures.values()].find((picture) => picture.item === item);

function buttons(picture) {
  picture.act.textContent = picture.running ? "Cancel" : "Remove";
  picture.act.setAttribute("aria-label", `${picture.act.textContent} ${picture.name}`);
  picture.item.classList.toggle("shown", picture === shown);
  picture.title.setAttribute("aria-current", picture === shown);
  if (picture === shown) at("download").disabled = !picture.finished;
}

async function start(picture) {
  picture.running = true;
  picture.item.classList.remove("bad");
  buttons(picture);
  try {
    await server.restore(picture.number, models.facts());
  } catch (error) {
    picture.item.classList.add("bad");
    ended(picture, error.message);
  }
}

const stop = (picture) => server.cancel(picture.number).catch((error) => say(error.message));

async function forget(picture, item) {
  item.remove();
  if (!picture) return;
  pictures.delete(picture.number);
  await server.remove(picture.number).catch((error) => say(error.message));
  if (picture === shown) select([...pictures.values()][0] ?? null);
}

async function select(picture, wait = true) {
  shown = picture ?? null;
  graph.clear();
  at("settings").hidden = !shown;
  show(mode);
  pictures.forEach(buttons);
  const coming = viewer.show(shown).catch((error) => say(error.message));
  if (wait) await coming;
}

// What is shown: compare, graph or error.
function show(next) {
  mode = next;
  for (const name of ["compare", "graph", "error"]) at(name).setAttribute("aria-pressed", name === mode);
  view.classList.toggle("graph", mode === "graph");
  at("divider").hidden = mode === "graph" || !shown;
  at("stages").hidden = mode !== "graph" || !shown;
  at("errors").hidden = mode !== "error" || !shown;
  if (mode !== "graph") graph.clear();
  viewer.error(mode === "error" && shown?.clean ? at("gain").value : null);
  if (mode === "error") score();
}

async function score() {
  const picture = shown;
  if (!picture?.clean || !picture.parts) return;
  try {
    const { before, restored } = await server.scores(picture.number, mixed());
    at("error-says").textContent = `PSNR to the clean picture: ${before ?? "infinite"} dB before, ${restored ?? "infinite"} dB restored.`;
  } catch (error) {
    at("error-says").textContent = error.message;
  }
}

const mixed = () => ({ strength: at("strength").value, texture: at("texture-amount").value });

function amounts() {
  const { strength, texture } = mixed();
  at("strength-says").textContent = `${strength} %`;
  at("texture-says").textContent = `${texture} %`;
  viewer.amounts(strength / 100, texture / 100);
}

async function choose() {
  try {
    if (!(await models.choose()) && mode === "graph") show("compare");
    graph.clear();
  } catch (error) {
    say(error.message);
  }
}

at("model").onchange = choose;
at("k").onchange = () => shown && models.tryK(shown, () => shown, mode === "graph");
at("strength").oninput = at("texture-amount").oninput = amounts;
at("strength").onchange = at("texture-amount").onchange = () => mode === "error" && score();
at("restore").onclick = () => start(shown);
at("download").onclick = async () => {
  at("download").disabled = true;
  try {
    say(`${await server.download(shown.number, mixed())} is downloaded`);
  } catch (error) {
    named(shown, error.message);
    say(error.message);
  }
  buttons(shown);
};
at("compare").onclick = () => show("compare");
at("graph").onclick = () => show("graph");
at("error").onclick = () => show("error");
at("gain").onchange = () => show(mode);
at("files").onchange = () => take([...at("files").files]).then(() => { at("files").value = ""; });
at("clean-file").onchange = async () => {
  const picture = shown;
  try {
    await server.addClean(picture.number, at("clean-file").files[0]);
    picture.clean = true;
    await viewer.loadRest("clean");
    show("error");
  } catch (error) {
    at("error-says").textContent = error.message;
  }
  at("clean-file").value = "";
};

for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    view.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}

view.addEventListener("pointermove", (event) => {
  if (mode === "graph" && shown && !graph.held.is && !event.buttons) graph.look(shown, viewer.pixelAt(event), models.facts());
});
view.addEventListener("click", (event) => {
  if (mode !== "graph" || !shown || viewer.dragged > 6) return;
  graph.held.is = !graph.held.is;
  graph.look(shown, viewer.pixelAt(event), models.facts());
});
view.addEventListener("keydown", (event) => {
  if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const zoom = viewer.place.zoom * devicePixelRatio;
  if (arrow && mode === "graph") graph.look(shown, graph.step(shown, ...arrow), models.facts());
  else if (arrow) viewer.move(-60 * arrow[0], -60 * arrow[1]);
  else if (event.key === "+" || event.key === "=") viewer.zoomTo(zoom * 1.25);
  else if (event.key === "-") viewer.zoomTo(zoom / 1.25);
  else if (event.key === "0") viewer.fit();
  else if (event.key === "1" || event.key === "4") viewer.zoomTo(Number(event.key));
  else return;
  event.preventDefault();
});
amounts();
