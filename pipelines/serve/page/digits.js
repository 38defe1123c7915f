// Digits of semantic IDs, and how they are revealed step by step.

import { byId, make, shown } from "./dom.js";

const STEP = 350; // milliseconds that a function evaluation is shown
const LONGEST = 2000; // milliseconds of all of them at most

export const percent = (probability) => `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`;

// Return a number at the end of a row, which only screen readers hear named.
export const score = (name, value) =>
  make("span", { className: "score" }, make("span", { className: "unseen" }, `${name} `), value);

// Return a digit: its code and the words of the code.
export function chip(digit, code, words) {
  return make(
    "li",
    { className: "digit" },
    make(
      "span",
      {},
      make("span", { className: "unseen" }, `digit ${digit}, code `),
      make("span", { className: "code" }, String(code)),
      ...(words?.length ? [" ", shown(words.join(", "))] : []),
    ),
  );
}

// Return the digits of a recommendation, in the order of the semantic ID.
export function chips(explanation) {
  const digits = [...explanation].sort((a, b) => a.digit - b.digit);
  const made = digits.map((each) => {
    const element = chip(each.digit, each.code, each.words);
    element.dataset.evaluation = each.evaluation;
    element.style.setProperty("--probability", each.probability);
    return element;
  });
  return make("ol", { className: "digits", "aria-label": "Semantic ID" }, ...made);
}

// The control of the step: reveals the digits of a list up to a function evaluation.
export class Steps {
  #list;
  #timer = 0;
  #range = byId("step");

  constructor(list) {
    this.#list = list;
    this.#range.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#show(Number(this.#range.value));
    });
    byId("play").addEventListener("click", () => this.#play());
  }

  // Show the digits of a new list: one function evaluation after the other, or all at once where less motion
  // is wanted.
  begin() {
    clearTimeout(this.#timer);
    const digits = [...this.#list.querySelectorAll("[data-evaluation]")];
    const last = Math.max(0, ...digits.map((each) => Number(each.dataset.evaluation)));
    byId("steps").hidden = last === 0;
    this.#range.max = last;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) this.#show(last);
    else this.#play();
  }

  #play() {
    clearTimeout(this.#timer);
    const last = Number(this.#range.max);
    const pause = Math.min(STEP, LONGEST / last);
    const advance = (step) => {
      this.#show(step);
      if (step < last) this.#timer = setTimeout(advance, pause, step + 1);
    };
    advance(0);
  }

  #show(step) {
    this.#range.value = step;
    byId("step-shown").textContent = `${step} of ${this.#range.max}`;
    for (const each of this.#list.querySelectorAll("[data-evaluation]")) {
      const evaluation = Number(each.dataset.evaluation);
      each.classList.toggle("masked", evaluation > step);
      each.classList.toggle("revealed", evaluation === step);
    }
  }
}
