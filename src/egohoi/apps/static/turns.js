// One question and its answer in the conversation.

import { colors, rgb } from "./stage.js";

/** A box in an answer, on the 0-100 grid of MiniGPT-v2 and VLM4HOI. */
const BOX = /\{<\s*(\d+(?:\.\d+)?)\s*><\s*(\d+(?:\.\d+)?)\s*><\s*(\d+(?:\.\d+)?)\s*><\s*(\d+(?:\.\d+)?)\s*>\}/g;

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

export class Turn {
  /** asked: {question, box, point}; picture: what it is about; hooks: {show(turn), again(turn)}. */
  constructor(asked, picture, image, hooks) {
    Object.assign(this, { asked, picture, response: null, text: "", hooks });
    this.words = element("div", { className: "words" });
    this.more = element("div", { className: "more" });
    this.meta = element("div", { className: "meta" });
    this.answer = element("div", { className: "answer cursor", onclick: () => this.response && hooks.show(this) }, this.words, this.more, this.meta);
    this.node = element("li", { className: "turn" },
      element("div", { className: "asked" }, crop(image, asked), element("span", {}, asked.title)), this.answer);
    this.node.setAttribute("aria-busy", "true");
    this.began = performance.now();
    this.clock = setInterval(() => { this.meta.textContent = `${Math.round((performance.now() - this.began) / 1000)} s`; }, 1000);
  }

  /** One more piece of the answer's text. */
  add(piece) {
    this.text += piece;
    // A box that is still being written is not shown as code.
    this.words.textContent = this.text.replace(BOX, "").replace(/\s*\{<[^}]*$/, "");
  }

  finish(response, setup) {
    this.#end();
    this.response = response;
    this.text = response.text;
    this.#write(response, setup);
    if (response.analysis && response.analysis !== response.text) this.more.append(element("p", { className: "analysis" }, response.analysis));
    // As the visitor waited: the times in the response count work that was kept from an earlier question again.
    const spent = Math.round(performance.now() - this.began);
    this.meta.replaceChildren(
      ...(response.target_found ? [] : [element("span", { className: "none" }, "no target")]),
      element("span", {}, response.task), element("span", {}, response.model),
      element("span", {}, spent < 1000 ? `${spent} ms` : `${(spent / 1000).toFixed(1)} s`),
      element("button", { type: "button", className: "link", onclick: () => this.hooks.show(this) }, "Show on the picture"));
  }

  fail(message) {
    this.#end();
    this.more.replaceChildren(element("p", { className: "problem", role: "alert" }, message));
    this.words.hidden = !this.text;
    this.meta.replaceChildren(element("button", { type: "button", className: "link", onclick: () => this.hooks.again(this) }, "Try again"));
  }

  #end() {
    clearInterval(this.clock);
    this.node.removeAttribute("aria-busy");
    this.answer.classList.remove("cursor");
  }

  /** The text, each box in it as a mark in the colour of the entity that it means. */
  #write(response, setup) {
    const inks = colors(response.entities, setup);
    this.words.replaceChildren();
    let at = 0;
    for (const found of response.text.matchAll(BOX)) {
      this.words.append(response.text.slice(at, found.index));
      at = found.index + found[0].length;
      const box = found.slice(1).map((v, k) => Number(v) / 100 * response.size[k % 2]);
      const index = nearest(box, response.entities);
      this.words.append(element("span", { className: "mark", title: `box ${box.map(Math.round).join(", ")}` },
        dot(index === null ? [150, 150, 150] : inks[index]), box.map(Math.round).join(" ")));
    }
    this.words.append(response.text.slice(at));
    if (!response.text.trim()) this.words.textContent = response.entities.length ? response.entities.map((e) => e.name).join(", ") : "No answer.";
  }
}

export function dot(ink) {
  const node = element("span", { className: "dot" });
  node.style.backgroundColor = rgb(ink);
  return node;
}

function nearest(box, entities) {
  const gaps = entities.map((e) => e.box.reduce((sum, v, k) => sum + Math.abs(v - box[k]), 0));
  return gaps.length ? gaps.indexOf(Math.min(...gaps)) : null;
}

/** A thumbnail of what the question points at. */
function crop(image, { box, point }) {
  if (!box && !point) return null;
  const around = 0.08 * Math.max(image.naturalWidth, image.naturalHeight);
  const [x1, y1, x2, y2] = box ?? [point[0] - around, point[1] - around, point[0] + around, point[1] + around];
  const canvas = element("canvas", { width: 88, height: 88 });
  canvas.style.width = canvas.style.height = "44px";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "the part of the picture that was pointed at");
  const scale = Math.min(88 / (x2 - x1), 88 / (y2 - y1));
  const w = (x2 - x1) * scale, h = (y2 - y1) * scale;
  canvas.getContext("2d").drawImage(image, x1, y1, x2 - x1, y2 - y1, (88 - w) / 2, (88 - h) / 2, w, h);
  return canvas;
}
