// The panel of one item: its semantic ID, why it was recommended, similar items, its columns.

import { Failure, latest, request } from "./api.js";
import { chip, percent, score } from "./digits.js";
import { buttonFor, byId, fill, make, nameOf, opener, shown, valueText } from "./dom.js";

const HIDDEN = ["item", "item_id", "title"]; // columns that the panel shows otherwise

export class ItemPanel {
  #dialog = byId("item");
  #item = null;
  #facts = null;
  #add;
  #onlyItem = latest();
  #onlySimilar = latest();

  // add: function that adds an item to the history.
  constructor(add) {
    this.#add = add;
    byId("item-close").addEventListener("click", () => this.#dialog.close());
    byId("item-add").addEventListener("click", () => {
      this.#dialog.close();
      add(this.#item);
    });
    byId("similar-by").addEventListener("change", () => this.#similar());
  }

  // Adapt the kinds of similarity to a run.
  describe(facts) {
    this.#facts = facts;
    const words = { model: "vectors of the model", text: "texts", sids: "equal digits" };
    byId("similar-by").replaceChildren(
      ...facts.similarities.map((by) => make("option", { value: by }, words[by] ?? by)),
    );
  }

  // Show an item; history: items to which it was recommended, if it has an explanation.
  open(item, history = []) {
    this.#item = item;
    byId("item-title").replaceChildren(shown(nameOf(item)));
    for (const id of ["item-status", "item-sid", "item-facts", "similar"]) byId(id).replaceChildren();
    byId("item-why").replaceChildren(...(item.explanation ? why(item.explanation, history) : []));
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    byId("item-title").focus();
    this.#load();
    this.#similar();
  }

  // Add a similar item, and say so: while the panel is open nothing else of the page is announced.
  #also(item) {
    this.#add(item);
    byId("item-status").replaceChildren("Added ", shown(nameOf(item)), ".");
  }

  async #load() {
    const path = `items/${encodeURIComponent(this.#item.item_id)}`;
    const facts = await failing("item-trouble", () => this.#onlyItem((signal) => request(path, { signal })));
    if (!facts) return;
    byId("item-sid").replaceChildren(...(facts.sid ? semanticId(facts) : []));
    byId("item-facts").replaceChildren(...columns(facts, this.#facts?.title_column));
  }

  async #similar() {
    const by = byId("similar-by").value;
    const path = `similar/${encodeURIComponent(this.#item.item_id)}?by=${by}&k=8`;
    const similar = () => this.#onlySimilar((signal) => request(path, { signal }));
    const answer = await failing("similar-trouble", similar);
    if (!answer) return;
    const rows = answer.items.map((item) =>
      make(
        "li",
        {},
        make("span", { className: "rank" }, String(item.rank)),
        make("div", { className: "grow" }, opener(item, () => this.open(item))),
        score("similarity", by === "sids" ? String(item.score) : item.score.toFixed(2)),
        buttonFor(item, "Add", () => this.#also(item)),
      ),
    );
    fill(byId("similar"), rows);
  }
}

// Return what a task returns; show its failure in an element.
async function failing(place, task) {
  byId(place).textContent = "";
  try {
    return await task();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    byId(place).textContent = error.message;
    return null;
  }
}

function semanticId(facts) {
  const digits = facts.sid.map((code, place) => chip(place + 1, code, facts.words?.[place]));
  return [
    make("h3", {}, "Semantic ID"),
    make("ol", { className: "digits", "aria-label": "Semantic ID" }, ...digits),
  ];
}

function why(explanation, history) {
  const titles = new Map(history.map((item) => [item.item_id, nameOf(item)]));
  const heads = ["Evaluation", "Digit", "Code", "Words", "Probability", "History with this code"];
  const rows = explanation.map((each) =>
    make(
      "tr",
      {},
      ...[each.evaluation, each.digit, each.code].map((value) => make("td", {}, String(value))),
      make("td", {}, shown(each.words.join(", ") || "–")),
      make("td", {}, percent(each.probability)),
      make("td", {}, ...listed(each.shared.map((id) => titles.get(id) ?? id))),
    ),
  );
  const table = make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows),
  );
  const region = { className: "scrolled", tabIndex: 0, role: "region", "aria-labelledby": "why-heading" };
  return [
    make("h3", { id: "why-heading" }, "Why it was recommended"),
    make("p", { className: "note" }, "Its digits in the order in which they were revealed."),
    make("div", region, table),
  ];
}

const listed = (texts) => (texts.length ? texts.map((text) => make("div", {}, shown(text))) : ["–"]);

function columns(facts, title) {
  const known = Object.entries(facts.columns).filter(
    ([name, value]) => value !== null && name !== title && !HIDDEN.includes(name),
  );
  const rows = [["id", facts.item_id], ["interactions", facts.interactions], ...known];
  const pairs = rows.flatMap(([name, value]) => [
    make("dt", {}, shown(name)),
    make("dd", {}, shown(valueText(value))),
  ]);
  return [make("h3", {}, "Columns"), make("dl", {}, ...pairs)];
}
