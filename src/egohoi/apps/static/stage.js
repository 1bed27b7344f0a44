// The picture with what an answer refers to on top, and the ways to point at it: drag, click, keys.

import { decode } from "./rle.js";

const SVG = "http://www.w3.org/2000/svg";
const FONT = '600 12.5px Inter, system-ui, sans-serif';
/** Masks are shown on at most this many pixels a side; the JSON and the saved picture keep every pixel. */
const MASK_SIDE = 1600;
/** A pointer that moved less than this on the screen is a click. */
const CLICK = 5;

const rgb = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Colours of entities as in drawings of the command line: hands by side, objects in order of appearance. */
export function colors(entities, setup) {
  let objects = 0;
  return entities.map((e) => e.kind === "hand"
    ? setup.hand_colors[e.side ?? "other"] ?? setup.hand_colors.other
    : setup.object_colors[objects++ % setup.object_colors.length]);
}

export { rgb };

function shape(parent, name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

export class Stage {
  /** onPick({box} or {point}) is called when the user points at something, in pixels of the picture. */
  constructor(setup, onPick) {
    this.setup = setup;
    this.onPick = onPick;
    this.box = document.getElementById("stage");
    this.view = document.getElementById("view");
    this.image = document.getElementById("picture");
    this.masks = document.getElementById("masks");
    this.overlay = document.getElementById("overlay");
    this.options = { boxes: true, names: true, masks: true };
    this.picture = this.response = this.selection = this.cross = this.on = null;
    this.pen = document.createElement("canvas").getContext("2d");
    new ResizeObserver(() => this.layout()).observe(this.box);
    addEventListener("resize", () => this.layout());
    this.#pointing();
  }

  /** Show a picture {url, name, width, height} without an answer. */
  show(picture) {
    if (picture === this.picture) return;
    this.picture = picture;
    this.response = this.selection = this.cross = this.on = null;
    this.image.src = picture.url;
    this.image.alt = picture.name;
    document.getElementById("drop").hidden = true;
    this.view.hidden = false;
    this.box.classList.remove("empty");
    this.layout();
  }

  /** Show an answer (null: none) and what the question pointed at ({box}, {point} or null). */
  result(response, selection) {
    this.response = response;
    this.selection = selection;
    this.on = null;
    this.redraw();
  }

  /** Bring one entity forward (null: all alike). */
  focus(index) {
    this.on = index;
    this.redraw();
  }

  layout() {
    if (!this.picture) return;
    const { width, height } = this.picture;
    // Where the picture stays in sight above the conversation (style.css), it leaves room for both.
    const above = getComputedStyle(this.box).position === "sticky";
    const high = above ? Math.max(200, innerHeight * 0.42) : Math.max(230, innerHeight * 0.66);
    const scale = Math.min(this.box.clientWidth / width, high / height);
    this.view.style.width = `${width * scale}px`;
    this.view.style.height = `${height * scale}px`;
    this.redraw();
  }

  redraw() {
    if (!this.picture) return;
    this.#drawMasks();
    this.#drawOverlay();
  }

  #drawMasks() {
    const { width, height } = this.picture, entities = this.response?.entities ?? [];
    const shrink = Math.min(1, MASK_SIDE / Math.max(width, height));
    const w = Math.max(1, Math.round(width * shrink)), h = Math.max(1, Math.round(height * shrink));
    this.masks.width = w;
    this.masks.height = h;
    if (!this.options.masks || !entities.some((e) => e.mask)) return;
    const pen = this.masks.getContext("2d"), area = pen.createImageData(w, h), inks = colors(entities, this.setup);
    const alpha = Math.round(this.setup.mask_opacity * 255);
    entities.forEach((entity, k) => {
      if (!entity.mask || (this.on !== null && this.on !== k)) return;
      const mask = decode(entity.mask), [mh, mw] = entity.mask.size, [r, g, b] = inks[k];
      const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h
        && mask[Math.min(mh - 1, Math.floor((y + 0.5) * mh / h)) * mw + Math.min(mw - 1, Math.floor((x + 0.5) * mw / w))];
      for (let y = 0; y < h; y++) {
        for (let x = 0; x < w; x++) {
          if (!inside(x, y)) continue;
          const edge = !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1));
          area.data.set([r, g, b, edge ? 235 : alpha], 4 * (y * w + x));
        }
      }
    });
    pen.putImageData(area, 0, 0);
  }

  #drawOverlay() {
    const wide = this.view.clientWidth, high = this.view.clientHeight, scale = wide / this.picture.width;
    const svg = this.overlay, entities = this.response?.entities ?? [], inks = colors(entities, this.setup);
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    svg.replaceChildren();
    svg.classList.toggle("focused", this.on !== null);
    const groups = entities.map((e, k) => shape(svg, "g", { class: k === this.on ? "entity on" : "entity", "data-index": k }));
    const placed = entities.map((e) => e.box.map((v) => v * scale));
    if (this.options.boxes) {
      placed.forEach(([x1, y1, x2, y2], k) => {
        const at = { x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1), rx: 2, fill: "none" };
        shape(groups[k], "rect", { ...at, stroke: "rgb(10 12 16 / .65)", "stroke-width": 5 });
        shape(groups[k], "rect", { ...at, class: "box", stroke: rgb(inks[k]), "stroke-width": 2.5 });
      });
      entities.forEach((e, k) => (e.holds ?? []).forEach((j) => {
        if (!placed[j] || j === k) return;
        const [a, b] = [placed[k], placed[j]].map(([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2]);
        const line = { x1: a[0], y1: a[1], x2: b[0], y2: b[1] };
        shape(groups[k], "line", { ...line, stroke: "rgb(10 12 16 / .65)", "stroke-width": 4.5 });
        shape(groups[k], "line", { ...line, stroke: rgb(inks[k]), "stroke-width": 2 });
        for (const [cx, cy] of [a, b]) shape(groups[k], "circle", { cx, cy, r: 4, fill: rgb(inks[k]), stroke: "rgb(10 12 16 / .65)" });
      }));
    }
    if (this.options.names) this.#drawNames(entities, inks, placed, wide, high);
    this.#drawSelection(svg, scale, wide, high);
  }

  /** Names lie above all boxes, each at the spot of its box that hides least of other names and other boxes. */
  #drawNames(entities, inks, placed, wide, high) {
    const taken = [], tall = 20;
    this.pen.font = FONT;
    const order = entities.map((_, k) => k).sort((a, b) => area(placed[b]) - area(placed[a]));
    for (const k of order) {
      const text = `${entities[k].name} ${entities[k].score.toFixed(2)}`, long = this.pen.measureText(text).width + 12;
      const [x1, y1, x2, y2] = placed[k];
      const spots = [[x1, y1 - tall - 3], [x2 - long, y1 - tall - 3], [x1, y2 + 3], [x2 - long, y2 + 3], [x1, y1], [x2 - long, y2 - tall], [x2 + 3, y1], [x1 - long - 3, y1]]
        .map(([x, y]) => [Math.max(0, Math.min(x, wide - long)), Math.max(0, Math.min(y, high - tall))])
        .map(([x, y]) => [x, y, x + long, y + tall]);
      const covered = spots.map((s) => taken.reduce((sum, t) => sum + 4 * overlap(s, t), 0)
        + placed.reduce((sum, box, j) => sum + (j === k ? 0 : overlap(s, box)), 0));
      const best = spots[covered.indexOf(Math.min(...covered))];
      taken.push(best);
      const [r, g, b] = inks[k], group = shape(this.overlay, "g", { class: k === this.on ? "entity on" : "entity" });
      shape(group, "rect", { x: best[0], y: best[1], width: long, height: tall, rx: 4, fill: rgb(inks[k]) });
      shape(group, "text", {
        x: best[0] + 6, y: best[1] + 14.5, class: "overlay-name", fill: 0.299 * r + 0.587 * g + 0.114 * b > 125 ? "#0c0c0e" : "#fff",
      }).textContent = text;
    }
  }

  #drawSelection(svg, scale, wide, high) {
    const chosen = this.drawn ?? this.selection;
    if (chosen?.box) {
      const [x1, y1, x2, y2] = chosen.box.map((v) => v * scale);
      const at = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "rgb(255 255 255 / .08)" };
      shape(svg, "rect", { ...at, stroke: "#0c0c0e", "stroke-width": 3 });
      shape(svg, "rect", { ...at, class: "selection", stroke: "#fff", "stroke-width": 1.6, "stroke-dasharray": "6 4" });
    }
    const spot = chosen?.point;
    if (spot) {
      const [cx, cy] = spot.map((v) => v * scale);
      shape(svg, "circle", { cx, cy, r: 8, fill: "none", stroke: "#0c0c0e", "stroke-width": 4 });
      shape(svg, "circle", { cx, cy, r: 8, class: "selection", fill: "rgb(255 255 255 / .25)", stroke: "#fff", "stroke-width": 2 });
    }
    if (this.cross) {
      const [x, y] = this.cross.map((v) => v * scale);
      for (const [ink, thick] of [["#0c0c0e", 3.5], ["#fff", 1.4]]) {
        shape(svg, "path", { d: `M${x} 0V${high}M0 ${y}H${wide}`, stroke: ink, "stroke-width": thick, "stroke-dasharray": "3 5" });
      }
    }
  }

  // ---- pointing

  #pointing() {
    const view = this.view;
    let from = null;
    const place = (event) => {
      const frame = view.getBoundingClientRect(), { width, height } = this.picture;
      return [clamp((event.clientX - frame.left) / frame.width * width, 0, width), clamp((event.clientY - frame.top) / frame.height * height, 0, height)];
    };
    view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      from = { at: place(event), x: event.clientX, y: event.clientY };
      view.setPointerCapture(event.pointerId);
    });
    view.addEventListener("pointermove", (event) => {
      if (!from) return;
      this.drawn = Math.hypot(event.clientX - from.x, event.clientY - from.y) < CLICK ? null : { box: spanned(from.at, place(event)) };
      this.cross = null;
      this.#drawOverlay();
    });
    const end = (event, keep) => {
      if (!from) return;
      const start = from, chosen = this.drawn;
      from = this.drawn = null;
      if (!keep) this.#drawOverlay();
      else this.#pick(chosen ?? { point: start.at });
    };
    view.addEventListener("pointerup", (event) => end(event, true));
    view.addEventListener("pointercancel", (event) => end(event, false));
    view.addEventListener("keydown", (event) => this.#key(event));
    view.addEventListener("blur", () => { this.cross = this.anchor = this.drawn = null; this.redraw(); });
  }

  #key(event) {
    const { width, height } = this.picture;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      event.preventDefault();
      const step = event.altKey ? 1 : Math.max(1, Math.max(width, height) * 0.02);
      const at = this.cross ?? [width / 2, height / 2];
      this.anchor = event.shiftKey ? this.anchor ?? at : null;
      this.cross = [clamp(at[0] + moves[event.key][0] * step, 0, width - 1), clamp(at[1] + moves[event.key][1] * step, 0, height - 1)];
      this.drawn = this.anchor ? { box: spanned(this.anchor, this.cross) } : null;
      this.#drawOverlay();
    } else if (event.key === "Enter" && this.cross) {
      event.preventDefault();
      const chosen = this.drawn ?? { point: this.cross };
      this.drawn = this.anchor = null;
      this.#pick(chosen);
    } else if (event.key === "Escape") {
      this.drawn = this.anchor = this.cross = null;
      this.result(null, null);
    }
  }

  #pick(chosen) {
    const { width, height } = this.picture, tenth = (v) => Math.round(v * 10) / 10;
    if (chosen.box) {
      const [x1, y1, x2, y2] = chosen.box.map(tenth);
      if (x2 - x1 < 1 || y2 - y1 < 1) { this.#drawOverlay(); return; }
      chosen = { box: [x1, y1, x2, y2] };
    } else {
      chosen = { point: [Math.min(tenth(chosen.point[0]), width - 0.1), Math.min(tenth(chosen.point[1]), height - 0.1)] };
    }
    this.onPick(chosen);
  }
}

const clamp = (v, low, high) => Math.max(low, Math.min(high, v));
const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const spanned = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
