// The settings, the list of recommendations, and its latency.

import { Failure, latest, request } from "./api.js";
import { Steps, chips, score } from "./digits.js";
import { buttonFor, byId, fill, make, opener } from "./dom.js";

const FIELDS = ["where", "k", "nfe"]; // whose faults are shown beside them
const milliseconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;

export class Recommendations {
  #on;
  #facts;
  #history = [];
  #list = byId("list");
  #steps = new Steps(this.#list);
  #only = latest();
  #ranks = new Map(); // of the list before: item id → place
  #before = ""; // its latency

  // on: {open(item, row), add(item), reload(), trouble(failure, again)}
  constructor(on) {
    this.#on = on;
    const form = byId("settings");
    let timer = 0;
    const soon = () => {
      clearTimeout(timer); // Enter both changes a field and submits the form
      timer = setTimeout(() => this.ask());
    };
    form.addEventListener("change", soon);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      soon();
    });
  }

  // Adapt the settings to a run.
  describe(facts) {
    this.#facts = facts;
    const { digits, decoding, orders, columns, horizon, max_k } = facts;
    const own = decoding.order === null ? "none" : `${decoding.order} (own)`;
    const others = orders.filter((order) => order !== decoding.order);
    byId("order").replaceChildren(
      make("option", { value: "" }, own),
      ...others.map((order) => make("option", { value: order }, order)),
    );
    byId("order").disabled = byId("nfe").disabled = digits === null;
    byId("nfe").max = digits === null ? 1 : digits * horizon;
    byId("nfe").value = decoding.nfe;
    byId("k").max = max_k;
    const names = columns.map((each) => `${each.name} (${each.list ? "list of " : ""}${each.kind})`);
    const number = columns.find((each) => each.kind === "number")?.name;
    const example = number ? `${number} < 30` : `${columns[0]?.name} like '%a%'`;
    byId("where-help").textContent = `A condition, e.g. ${example}. Columns: ${names.join(", ")}.`;
  }

  // Recommend to a history.
  to(history) {
    this.#history = history;
    this.ask();
  }

  async ask() {
    if (this.#facts === undefined) return;
    if (this.#history.length === 0) {
      this.#only(async () => {});
      this.#clear();
      return;
    }
    this.#list.setAttribute("aria-busy", "true");
    const began = performance.now();
    try {
      const answer = await this.#only((signal) => request("recommend", { body: this.#body(), signal }));
      this.#faults({});
      this.#show(answer, performance.now() - began);
      if (answer.run !== this.#facts.run) this.#on.reload();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const isFields = Object.keys(error.fields).some((name) => FIELDS.includes(name));
      this.#faults(error.fields);
      this.#on.trouble(isFields ? null : error, () => this.ask());
      const isOld = this.#list.childElementCount > 0;
      byId("list-status").textContent = isOld ? "The list below is that of before." : "";
    }
    this.#list.removeAttribute("aria-busy");
  }

  #body() {
    const number = (id) => (byId(id).validity.badInput ? "?" : byId(id).value && Number(byId(id).value));
    const body = {
      history: this.#history.map((item) => item.item_id),
      k: number("k") || null,
      exclude_seen: byId("exclude_seen").checked,
      explain: this.#facts.digits !== null,
    };
    if (byId("where").value.trim()) body.where = byId("where").value;
    if (byId("order").value) body.order = byId("order").value;
    if (!byId("nfe").disabled && number("nfe")) body.nfe = number("nfe");
    return body;
  }

  #faults(fields) {
    for (const name of FIELDS) {
      byId(`${name}-error`).textContent = fields[name] ?? "";
      byId(name).setAttribute("aria-invalid", name in fields);
    }
  }

  #clear() {
    this.#ranks = new Map();
    this.#list.replaceChildren();
    this.#steps.begin();
    this.#faults({});
    byId("list-status").textContent = byId("latency").textContent = this.#before = "";
  }

  #show(answer, roundTrip) {
    this.#on.trouble(null);
    const rows = answer.recommendations;
    fill(this.#list, rows.map((row, place) => this.#row(row, place)));
    this.#ranks = new Map(rows.map((row, place) => [row.item_id, place]));
    this.#steps.begin();
    const isPopular = answer.source === "popularity";
    const popular = isPopular ? " No item of the history is known: these are the most popular." : "";
    const unknown = answer.unknown.length ? ` Not in the catalogue: ${answer.unknown.join(", ")}.` : "";
    const count = rows.length === 1 ? "1 recommendation" : `${rows.length} recommendations`;
    const to = this.#history.length === 1 ? "to 1 item." : `to ${this.#history.length} items.`;
    byId("list-status").textContent = (rows.length ? `${count} ${to}` : "No item qualifies.") + popular + unknown;
    const now = milliseconds(answer.milliseconds);
    const before = this.#before && `; the list before: ${this.#before}`;
    byId("latency").textContent = `Service ${now}, round trip ${milliseconds(roundTrip)}${before}`;
    this.#before = now;
  }

  #row(row, place) {
    const rank = row.position === undefined ? `${row.rank}` : `${row.rank}.${row.position}`;
    return make(
      "li",
      {},
      make("span", { className: "rank" }, rank),
      make(
        "div",
        { className: "grow" },
        opener(row, () => this.#on.open(row)),
        " ",
        this.#moved(row, place),
        ...(row.explanation ? [chips(row.explanation)] : []),
      ),
      score("score", row.score.toFixed(2)),
      buttonFor(row, "Add", () => this.#on.add(row)),
    );
  }

  // Return how the place of an item differs from that in the list before.
  #moved(row, place) {
    const before = this.#ranks.get(row.item_id);
    if (this.#ranks.size === 0 || before === place) return "";
    if (before === undefined) return make("span", { className: "moved" }, "new");
    const word = before > place ? "up" : "down";
    return make("span", { className: "moved" }, `${word} ${Math.abs(before - place)}`);
  }
}
