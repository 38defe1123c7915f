// The page of `maskgr serve`: search, history, recommendations.

import { Failure, latest, request } from "./api.js";
import { buttonFor, byId, fill, make, opener, shown } from "./dom.js";
import { ItemPanel } from "./item.js";
import { Recommendations } from "./recommend.js";

const PAUSE = 120; // milliseconds after the last key before a search
const FOUND = 20; // items of a search that are shown

let history = [];
const searchOnly = latest();
const panel = new ItemPanel(add);
const recommendations = new Recommendations({
  open: (row) => panel.open(row, history),
  add,
  reload: () => start(),
  trouble,
});

// Show a failure with a button that tries again; null removes it.
function trouble(failure, again) {
  const retry = () => {
    trouble(null);
    again();
  };
  const parts = failure
    ? [make("span", {}, failure.message), make("button", { type: "button", onclick: retry }, "Try again")]
    : [];
  byId("trouble").replaceChildren(...parts);
}

// Describe the run; a search and a history that are there stay.
async function start() {
  let facts;
  try {
    facts = await request("run");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    trouble(error, start);
    return;
  }
  const count = (number, word) => `${number.toLocaleString("en")} ${word}`;
  const users = facts.users === null ? "a bundle, without users" : count(facts.users, "users");
  const size = `${count(facts.items, "items")} · ${users}`;
  byId("run").replaceChildren(shown(facts.run), ` · ${facts.model} · ${facts.dataset} · ${size}`);
  document.title = `${facts.run} – maskgr`;
  panel.describe(facts);
  recommendations.describe(facts);
  search();
}

async function search() {
  const path = `items?q=${encodeURIComponent(byId("search").value)}&limit=${FOUND}`;
  let found;
  try {
    found = await searchOnly((signal) => request(path, { signal }));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    trouble(error, search);
    return;
  }
  const all = byId("search").value === "" ? "The most frequent of" : "The first of";
  const some = found.total > found.items.length ? `${all} ${found.total.toLocaleString("en")} items.` : "";
  byId("found-status").textContent = some || (found.total === 1 ? "1 item." : `${found.total} items.`);
  fill(
    byId("found"),
    found.items.map((item) =>
      make(
        "li",
        {},
        make("div", { className: "grow" }, opener(item, () => panel.open(item))),
        buttonFor(item, "Add", () => add(item)),
      ),
    ),
  );
}

function add(item) {
  history = [...history, { item_id: item.item_id, title: item.title }];
  changed();
}

function remove(place) {
  history = history.filter((_, each) => each !== place);
  changed();
}

function changed() {
  byId("history-empty").hidden = history.length > 0;
  byId("clear").hidden = history.length === 0;
  fill(
    byId("history"),
    history.map((item, place) => {
      const title = opener(item, () => panel.open(item));
      const removal = buttonFor(item, "Remove", () => remove(place));
      return make("li", {}, make("div", { className: "grow" }, title), removal);
    }),
  );
  recommendations.to(history);
}

let timer = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE);
});
byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  search();
});
byId("clear").addEventListener("click", () => {
  history = [];
  changed();
  byId("history-heading").focus();
});
start();
