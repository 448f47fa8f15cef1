// The few things done to the document everywhere. All text goes in as text: nothing here parses markup.
import { t } from "./texts.js";
import { turn } from "./turns.js";

export const byId = (id) => document.getElementById(id);

/** A new element; text, classes and children are optional. */
export function make(tag, { text, classes, type } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (classes) element.className = classes;
  if (type) element.type = type;
  element.append(...children);
  return element;
}

/** Set only what differs, so that an update of hundreds of cells touches the few that changed. */
export function set(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

/**
 * Text from outside, with what would turn or hide its letters (U+202E and the like) made visible: control and format
 * characters, halves of pairs, separators of lines, and letters that show nothing.
 */
export const plain = (text) =>
  String(text ?? "").replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u3164\uffa0]/gu,
    (sign) => `<U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}>`,
  );

export const setText = (element, text) => set(element, "textContent", String(text));

const BUILT_AT_ONCE = 8; // rows: some 10 ms on a slow machine, with what it takes to draw them
const FILLED_WITHIN = 8; // milliseconds; what is left is filled in later frames

function byTheirIds(rows, idOf) {
  const found = new Map();
  for (const row of rows) {
    let id = idOf(row);
    while (found.has(id)) id += "+"; // ids come from outside; none may hide another's row
    found.set(id, row);
  }
  return found;
}

/**
 * A table whose rows stay the same elements while their ids do, so that focus, selection and canvases survive updates.
 *
 * A column is {head, kind, build(cell, row), fill(cell, row)}: `head` is a key of the texts, `kind` a class of its cells,
 * `build` runs once for each cell, `fill` at every update. A row is built by its first data.
 */
export class Table {
  #columns;
  #head;
  #body = document.createElement("tbody");
  #rows = new Map();
  #decorate;
  #round = 0;

  constructor(element, columns, decorate = () => {}) {
    this.#columns = columns;
    this.#decorate = decorate;
    this.#head = columns.map(({ kind }) => make("th", { classes: kind }));
    for (const cell of this.#head) cell.scope = "col";
    element.append(make("thead", {}, make("tr", {}, ...this.#head)), this.#body);
  }

  /**
   * Show these rows; `idOf` gives each its id. New rows are built a few in each frame, and so are old ones filled; `then` is
   * called when all are there. Those before `from` are filled already.
   */
  update(rows, idOf, then = () => {}, from = 0) {
    const round = ++this.#round;
    let room = BUILT_AT_ONCE;
    let left = null; // the number of the first row that has to wait
    const over = performance.now() + FILLED_WITHIN;
    this.#columns.forEach(({ head }, n) => setText(this.#head[n], t(head)));
    const before = this.#rows;
    const wanted = byTheirIds(rows, idOf);
    for (const [id, element] of before) if (!wanted.has(id)) element.remove(); // first: the others stay where they are
    this.#rows = new Map();
    let place = this.#body.firstElementChild;
    let n = -1;
    for (const [id, row] of wanted) {
      n++;
      const known = before.get(id);
      const waits = n >= from && (left !== null || performance.now() > over) && n > from;
      if (known === undefined && (waits || room-- <= 0)) {
        left ??= n;
        continue;
      }
      if (known !== undefined && waits) left ??= n;
      const element = known !== undefined && (n < from || waits) ? known : this.#filled(known, row);
      if (element === null) {
        if (known === place) place = place?.nextElementSibling ?? null;
        known?.remove();
        continue;
      }
      this.#rows.set(id, element);
      if (element === place) place = place.nextElementSibling;
      else if (element === place?.nextElementSibling) place = element.nextElementSibling; // that one goes further down
      else this.#body.insertBefore(element, place);
    }
    if (left === null) then();
    else turn().then(() => round === this.#round && this.update(rows, idOf, then, left));
  }

  /** The row, new where there is none yet; null where its data is so odd that it cannot be shown: the others can. */
  #filled(element, row) {
    try {
      element ??= this.#build(row);
      this.#fill(element, row);
      return element;
    } catch (error) {
      console.error(error);
      return null;
    }
  }

  #build(row) {
    const element = document.createElement("tr");
    for (const { kind, build } of this.#columns) {
      const cell = make("td", { classes: kind });
      build?.(cell, row);
      element.append(cell);
    }
    return element;
  }

  #fill(element, row) {
    this.#decorate(element, row);
    this.#columns.forEach(({ head, fill }, n) => {
      const cell = element.children[n];
      const label = t(head);
      if (cell.dataset.label !== label) cell.dataset.label = label; // heads the cell where the table is cards
      fill(cell, row);
    });
  }
}

/**
 * A column with a button for each of `actions`, the last of them a dangerous one. `text` is what a button says, `label` what
 * those hear who cannot see in which row it is. `act` is called with the action, the row and the button.
 */
export const actionsColumn = ({ actions, text, label, act, isFor = () => true }) => ({
  head: "actions",
  kind: "actions",
  build(cell) {
    const buttons = actions.map((action) => {
      const button = make("button", { type: "button", classes: action === actions.at(-1) ? "danger" : "" });
      button.addEventListener("click", () => act(action, cell.row, button));
      return button;
    });
    cell.append(make("div", {}, ...buttons));
  },
  fill(cell, row) {
    cell.row = row;
    set(cell.firstChild, "hidden", !isFor(row));
    actions.forEach((action, n) => {
      const button = cell.firstChild.children[n];
      setText(button, text(action));
      set(button, "ariaLabel", label(action, row));
    });
  },
});

/** A column that is one piece of text. */
export const textColumn = (head, kind, text) => ({ head, kind, fill: (cell, row) => setText(cell, text(row)) });

/** Show one of two: the table, or the sentence that there is nothing. */
export function showEither(name, some) {
  set(byId(`${name}-table`), "hidden", !some);
  set(byId(`${name}-none`), "hidden", some);
}

/** The colour that a custom property of style.css now stands for. */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
