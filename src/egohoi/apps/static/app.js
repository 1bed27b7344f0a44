// The page: pictures in, questions out, a conversation in between.

import { Problem, ask, request } from "./api.js";
import { Stage, colors } from "./stage.js";
import { Turn, dot, element } from "./turns.js";

const $ = (id) => document.getElementById(id);
const SUGGESTIONS = ["Where are my hands?", "What is in my right hand?", "Which hand holds something?", "Segment what I am holding"];
/** Earlier turns that a question takes along. */
const REMEMBERED = 8;
/** Room for a form's other fields below the largest request. */
const FORM_BYTES = 16384;

const setup = await (await fetch("page.json")).json();
const stage = new Stage(setup, (chosen) => submit({ question: $("question").value.trim(), ...chosen }));
let picture = null, shown = null, running = null, turns = [];

// ---- pictures

async function open(blob, name, title = name) {
  let url = null;
  try {
    if (blob.size === 0) throw new Problem(`${name}: the file is empty`);
    if (blob.size > setup.upload - FORM_BYTES) {
      throw new Problem(`${name}: is larger than ${Math.floor(setup.upload / 2 ** 20)} MB, the most that this server takes: shrink it first`);
    }
    url = URL.createObjectURL(blob);
    const image = new Image();
    image.src = url;
    try { await image.decode(); } catch {
      throw new Problem(`${name}: is not a picture that this browser can show; JPEG, PNG and WebP work everywhere`);
    }
    picture = { blob, name, title, url, width: image.naturalWidth, height: image.naturalHeight };
  } catch (error) {
    if (url) URL.revokeObjectURL(url);
    return tell(error);
  }
  hush();
  running?.abort();
  present(null);
  stage.show(picture);
  for (const button of $("examples").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.title === title));
  controls();
}

function files(list) {
  const file = list?.[0];
  if (file) open(file, file.name || "pasted.png");
  else tell(new Problem("that was no picture file: save it first, then drop the file here"));
}

for (const id of ["choose", "choose-first"]) $(id).addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { if ($("file").files.length) files($("file").files); $("file").value = ""; });
$("drop").addEventListener("click", (event) => { if (event.target.id !== "choose-first") $("file").click(); });
addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); files(event.clipboardData.files); } });
addEventListener("dragover", (event) => { event.preventDefault(); stage.box.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.box.classList.remove("over"); });
addEventListener("drop", (event) => { event.preventDefault(); stage.box.classList.remove("over"); files(event.dataTransfer.files); });

for (const { url, title } of setup.examples) {
  const button = element("button", { type: "button", title, onclick: async () => {
    try { await open(await (await request(url)).blob(), url.split("/").pop(), title); } catch (error) { tell(error); }
  } }, element("img", { src: url, alt: `Example: ${title}`, width: 115, height: 83 }));
  button.dataset.title = title;
  button.setAttribute("aria-pressed", "false");
  $("examples").append(element("li", {}, button));
}

// ---- questions

/** asked: {question, box, point, describe}. */
async function submit(asked) {
  if (!picture) return tell(new Problem("choose a picture first: drop one, or take an example"));
  if (running) return tell(new Problem("one question at a time: wait for the answer, or stop it"));
  if (!asked.question && !asked.box && !asked.point && !asked.describe) { $("question").focus(); return; }
  hush();
  const about = picture, stop = new AbortController();
  const title = asked.describe ? "Describe everything" : asked.question || (asked.box ? "What is in this box?" : "What is here?");
  const turn = new Turn({ ...asked, title }, about, stage.image, { show, again: (t) => { if (about === t.picture) { remove(t); submit(t.asked); } } });
  turns.push(turn);
  $("turns").append(turn.node);
  $("welcome").hidden = true;
  $("question").value = "";
  grow();
  running = stop;
  present(null, asked);
  controls();
  turn.node.scrollIntoView({ block: "nearest" });

  const form = settings(asked.describe);
  turn.model = form.get("model");
  const earlier = asked.describe ? [] : history(about, turn);
  if (earlier.length) form.set("history", JSON.stringify(earlier));
  form.set("image", about.blob, about.name);
  if (asked.question) form.set("question", asked.question);
  if (asked.box) form.set("box", asked.box.join(","));
  if (asked.point) form.set("point", asked.point.join(","));
  try {
    const response = await ask(asked.describe ? "v1/describe" : "v1/ask", form, (piece) => { turn.add(piece); follow(turn); }, stop.signal);
    turn.finish(response, setup);
    if (picture === about) show(turn);
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof Problem)) console.error(error);
    turn.fail(error.name === "AbortError" ? "stopped" : error instanceof Problem ? error.message : "the page failed on this answer; the browser's console says more");
  } finally {
    if (running === stop) running = null;
    controls();
    follow(turn);
  }
}

/** The last answered turns about a picture by the chosen model, before `turn`, as the server takes them. */
function history(about, turn) {
  if ($("remember").value === "no") return [];
  const answered = turns.filter((t) => t !== turn && t.picture === about && t.response && t.model === turn.model && !t.asked.point);
  return answered.slice(-REMEMBERED).map((t) => ({ question: t.response.query, answer: t.response.text, ...(t.asked.box ? { box: t.asked.box } : {}) }));
}

function settings(describe) {
  const form = new FormData();
  if ($("model").value) form.set("model", $("model").value);
  const temperature = Number($("temperature").value);
  form.set("temperature", temperature);
  if (temperature > 0) {
    form.set("top_p", $("top-p").value);
    form.set("seed", $("seed").value || "0");
  } else form.set("beams", $("beams").value);
  if ($("max-new-tokens").value) form.set("max_new_tokens", $("max-new-tokens").value);
  if (!describe) {
    if ($("task").value) form.set("task", $("task").value);
    if ($("mask").value) form.set("mask", $("mask").value);
  }
  return form;
}

function follow(turn) {
  const list = $("turns");
  list.scrollTop = list.scrollHeight;
  if (getComputedStyle(list).overflowY !== "auto") turn.node.scrollIntoView({ block: "nearest" });
}

function show(turn) {
  if (turn.picture !== picture) {
    picture = turn.picture;
    stage.show(picture);
    for (const button of $("examples").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.title === picture.title));
  }
  for (const other of turns) other.node.classList.toggle("shown", other === turn);
  present(turn, turn.asked);
}

/** Put the answer of a turn (null: none) on the picture, in the list below it, and in the JSON. */
function present(turn, asked = null) {
  shown = turn;
  if (!turn) for (const other of turns) other.node.classList.remove("shown");
  const response = turn?.response ?? null, inks = response ? colors(response.entities, setup) : [];
  stage.result(response, asked && (asked.box || asked.point) ? { box: asked.box, point: asked.point } : null);
  const items = (response?.entities ?? []).map((entity, k) => {
    const held = (entity.holds ?? []).map((j) => response.entities[j]?.name).filter(Boolean);
    const extra = `${Math.round(entity.score * 100)} %${held.length ? `, holds ${held.join(" and ")}` : ""}`;
    const button = element("button", { type: "button", title: `box ${entity.box.join(", ")}` }, dot(inks[k]), entity.name, element("span", { className: "extra" }, extra));
    button.setAttribute("aria-pressed", "false");
    const pinned = () => [...$("entities").querySelectorAll("button")].findIndex((b) => b.getAttribute("aria-pressed") === "true");
    button.addEventListener("mouseenter", () => stage.focus(k));
    button.addEventListener("mouseleave", () => stage.focus(pinned() < 0 ? null : pinned()));
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const b of $("entities").querySelectorAll("button")) b.setAttribute("aria-pressed", String(b === button && on));
      stage.focus(on ? k : null);
    });
    return element("li", {}, button);
  });
  $("entities").replaceChildren(...items);
  $("raw").hidden = !response;
  $("raw").querySelector("pre").textContent = response ? JSON.stringify(response, null, 1) : "";
  for (const id of ["save-picture", "save-json"]) $(id).disabled = !response;
}

function remove(turn) {
  turn.node.remove();
  turns = turns.filter((t) => t !== turn);
}

function controls() {
  const busy = running !== null;
  stage.box.classList.toggle("busy", busy);
  stage.box.setAttribute("aria-busy", String(busy));
  $("send").textContent = busy ? "Stop" : "Ask";
  $("send").classList.toggle("primary", !busy);
  $("clear").hidden = turns.length === 0;
  for (const button of $("suggestions").querySelectorAll("button")) button.disabled = busy || !picture;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit({ question: $("question").value.trim() });
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) submit({ question: $("question").value.trim() });
  }
});
function grow() {
  $("question").style.height = "auto";
  $("question").style.height = `${$("question").scrollHeight + 2}px`;
}
$("question").addEventListener("input", grow);
$("clear").addEventListener("click", () => {
  running?.abort();
  const kept = new Set([picture?.url]);
  for (const url of new Set(turns.map((t) => t.picture.url))) if (!kept.has(url)) URL.revokeObjectURL(url);
  turns = [];
  $("turns").replaceChildren();
  $("welcome").hidden = false;
  present(null);
  controls();
  $("question").focus();
});
$("suggestions").append(element("button", { type: "button", onclick: () => submit({ describe: true, question: "" }) }, "Describe everything"));
for (const text of SUGGESTIONS) $("suggestions").append(element("button", { type: "button", onclick: () => submit({ question: text }) }, text));

// ---- settings

function settle() {
  const warm = Number($("temperature").value) > 0;
  for (const id of ["temperature", "top-p", "beams"]) $(`${id}-value`).textContent = $(id).value;
  $("top-p").disabled = $("seed").disabled = !warm;
  $("beams").disabled = warm;
  $("settings-note").textContent = warm
    ? "Samples: top-p and seed count, beams do not." : "Temperature 0 takes the likeliest word; beams search wider in language models that can (not nano).";
}
$("settings").addEventListener("input", settle);
settle();

for (const name of ["boxes", "names", "masks"]) {
  $(`show-${name}`).addEventListener("change", (event) => { stage.options[name] = event.target.checked; stage.redraw(); });
}

$("theme").addEventListener("click", () => {
  const dark = (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("egohoi-theme", dark ? "light" : "dark"); } catch { /* private windows may refuse */ }
});
try { const theme = localStorage.getItem("egohoi-theme"); if (theme) document.documentElement.dataset.theme = theme; } catch { /* as above */ }

// ---- what is saved

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
const stem = (name) => name.replace(/\.[^.]*$/, "");
$("save-json").addEventListener("click", () => {
  save(new Blob([`${JSON.stringify(shown.response, null, 1)}\n`], { type: "application/json" }), `${stem(shown.picture.name)}.egohoi.json`);
});
$("save-picture").addEventListener("click", async () => {
  const turn = shown, form = new FormData();
  form.set("image", turn.picture.blob, turn.picture.name);
  form.set("response", JSON.stringify(turn.response));
  try {
    save(await (await request("v1/draw", { method: "POST", body: form })).blob(), `${stem(turn.picture.name)}.egohoi.png`);
  } catch (error) { tell(error); }
});

// ---- models

async function models(choose) {
  const listed = await (await request("v1/models")).json();
  $("model").replaceChildren(...listed.data.map(({ id }) => element("option", { value: id }, id)));
  if (choose) $("model").value = choose;
  $("kind").replaceChildren(...listed.loadable.map((kind) => element("option", { value: kind }, kind)));
  $("add-model").hidden = listed.loadable.length === 0;
}
$("add-model").addEventListener("click", () => { $("model-error").hidden = true; $("model-dialog").showModal(); });
$("model-cancel").addEventListener("click", () => $("model-dialog").close());
$("model-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("model-load");
  button.disabled = true;
  button.textContent = "Loading\u2026";
  $("model-error").hidden = true;
  try {
    const body = JSON.stringify({ kind: $("kind").value, folder: $("folder").value });
    const added = await (await request("v1/models", { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
    await models(added.id);
    $("model-dialog").close();
  } catch (error) {
    $("model-error").textContent = error.message;
    $("model-error").hidden = false;
  } finally {
    button.disabled = false;
    button.textContent = "Load";
  }
});

// ---- problems

let timer = 0;
function tell(error) {
  if (!(error instanceof Problem)) console.error(error);
  clearTimeout(timer);
  $("notice").textContent = error.message;
  $("notice").hidden = false;
  timer = setTimeout(hush, 12000);
}
function hush() { $("notice").hidden = true; }
$("notice").addEventListener("click", hush);

controls();
try { await models(); } catch (error) { tell(error); }
document.documentElement.dataset.ready = "yes";
