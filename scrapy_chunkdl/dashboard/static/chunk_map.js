// Draws the map of a file's chunks. A state shows by shape as well as by colour, so that it can be told without colours:
// done fills the cell, running its lower half, hedged is split in two, retried hangs from the top, missing is a line.
import { colour } from "./dom.js";

export const STATES = ["d", "m", "r", "t", "h"];
const QUIET = ["d", "m"];
const HEIGHT = 18;
const SHAPES = {
  d: [[0, 1]],
  r: [[0.45, 0.55]],
  h: [[0, 0.4], [0.6, 0.4]],
  t: [[0, 0.4], [0.86, 0.14]],
  m: [[0.86, 0.14]],
};

let colours = null;

/** Colours are looked up anew after the theme has changed. */
export function forgetColours() {
  colours = null;
}

/** "12d3r1h40m" as [[12, "d"], …]. */
export function runs(map) {
  return [...(map ?? "").matchAll(/(\d+)([drhtm])/g)].map(([, length, state]) => [Number(length), state]);
}

/** How many cells are in each state, and in all. */
export function tally(map) {
  const cells = { d: 0, r: 0, h: 0, t: 0, m: 0, all: 0 };
  for (const [length, state] of runs(map)) {
    cells[state] += length;
    cells.all += length;
  }
  return cells;
}

/** Draw the map over a canvas that is `width` wide, in CSS pixels; nothing is done where it would look the same. */
export function draw(canvas, map, width) {
  colours ??= Object.fromEntries(STATES.map((state) => [state, colour(`--chunk-${state}`)]));
  const ratio = window.devicePixelRatio;
  const looks = `${map}/${width}/${ratio}/${colours.d}`;
  if (canvas.looks === looks) return;
  canvas.looks = looks;
  const [w, h] = [Math.round(width * ratio), Math.round(HEIGHT * ratio)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, w, h);
  const all = tally(map).all;
  const cell = w / all;
  const gap = cell >= 6 * ratio ? Math.round(ratio) : 0; // single cells are told apart where there is room for it
  const fill = (state, from, to) => {
    pen.fillStyle = colours[state];
    const left = Math.round(from * cell);
    const wide = Math.round(to * cell) - left - gap;
    const width = QUIET.includes(state) ? Math.max(1, wide) : Math.max(Math.round(3 * ratio), wide);
    pen.clearRect(left, 0, width, h);
    for (const [top, height] of SHAPES[state]) pen.fillRect(left, Math.round(top * h), width, Math.round(height * h));
  };
  const busy = [];
  let at = 0;
  for (const [length, state] of runs(map)) {
    if (!QUIET.includes(state)) busy.push([state, at, at + length]);
    else if (gap) for (let n = 0; n < length; n++) fill(state, at + n, at + n + 1);
    else fill(state, at, at + length);
    at += length;
  }
  busy.sort(([a], [b]) => STATES.indexOf(a) - STATES.indexOf(b)); // the rarer lie on top, and none is too thin to see
  for (const [state, from, to] of busy) {
    for (let n = from; n < to; n += gap ? 1 : to - from) fill(state, n, gap ? n + 1 : to);
  }
}
