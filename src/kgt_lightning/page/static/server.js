// What the page asks the server for, and what it is told.

const socket = new WebSocket(`ws://${location.host}/session`);
let key = "";

// Calls `hello`, `tile`, ... of the listeners with what the server tells; `gone` when it tells nothing any more.
export function listen(listeners) {
  let refused = "";
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.event === "hello") key = event.key;
    if (event.event === "refused") refused = event.reason;
    listeners[event.event]?.(event);
  };
  socket.onclose = () => listeners.gone(refused || "The connection to kgt serve has ended: start it again if needed, and reload this page.");
}

const address = (path, facts) => `/${key}/${path}?${new URLSearchParams(facts)}`;

// The answer, or an Error with the reason for people.
async function ask(path, facts = {}, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path, facts), options);
  } catch {
    throw new Error("kgt serve does not answer, or refused the file");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error || `kgt serve answered ${answer.status}`);
}

export const model = async (name) => (await ask(`models/${encodeURIComponent(name)}`)).json();
export const add = async (file) => (await ask("pictures", { name: file.name }, { method: "PUT", body: file })).json();
export const addClean = (number, file) => ask(`pictures/${number}/clean`, { name: file.name }, { method: "PUT", body: file });
export const remove = (number) => ask(`pictures/${number}`, {}, { method: "DELETE" });
export const restore = (number, facts) => ask(`pictures/${number}/restore`, facts, { method: "POST" });
export const cancel = (number) => ask(`pictures/${number}/restore`, {}, { method: "DELETE" });
export const neighbours = async (number, facts) => (await ask(`pictures/${number}/neighbours`, facts)).json();
export const cost = async (number, facts) => (await ask(`pictures/${number}/cost`, facts)).json();
export const scores = async (number, facts) => (await ask(`pictures/${number}/scores`, facts)).json();

export async function layer(number, name, place) {
  return createImageBitmap(await (await ask(`pictures/${number}/layer/${name}`, place)).blob());
}

export async function download(number, facts) {
  const answer = await ask(`pictures/${number}/download`, facts);
  const [, coded] = answer.headers.get("content-disposition").split("''");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = decodeURIComponent(coded);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return link.download;
}
