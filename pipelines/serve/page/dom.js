// Elements and texts. Titles come from data and are always text, never markup.

// Controls, marks of direction and characters of no width. They are shown by their code points: a title may
// neither hide something nor turn what stands beside it.
const INVISIBLE =
  /([\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/;

const codePoint = (character) => `U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

export const byId = (id) => document.getElementById(id);

// Return a new element with properties (those with a hyphen are attributes) and children (elements or text).
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// Return an element that shows any text as it is, in the direction of its first letters.
export function shown(text) {
  const parts = text.split(INVISIBLE).filter((part) => part !== "");
  const pieces = parts.map((part) =>
    INVISIBLE.test(part) ? make("bdi", { className: "control" }, codePoint(part)) : part,
  );
  return make("bdi", { className: "text", dir: "auto" }, ...pieces);
}

export const nameOf = (item) => item.title || item.item_id;

// Return a button whose visible word is followed by the title of an item, which only screen readers read.
export function buttonFor(item, word, pressed) {
  const title = make("span", { className: "unseen" }, " ", shown(nameOf(item)));
  return make("button", { type: "button", onclick: pressed }, word, title);
}

// Return a button that shows the title of an item and opens it.
export const opener = (item, open) =>
  make("button", { type: "button", className: "title", onclick: () => open(item) }, shown(nameOf(item)));

// Replace the rows of a list. Where one of its buttons has the focus, the button at the same place gets it.
export function fill(list, rows) {
  const place = [...list.children].findIndex((row) => row.contains(document.activeElement));
  const kind = document.activeElement?.matches(".title") ? ".title" : "button:not(.title)";
  list.replaceChildren(...rows);
  if (place < 0) return;
  const row = list.children[Math.min(place, rows.length - 1)];
  (row?.querySelector(kind) ?? byId(list.getAttribute("aria-labelledby"))).focus();
}

// Return a value of a column as text.
export function valueText(value) {
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}
