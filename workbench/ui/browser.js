// The table of stored runs. Runs can be filtered, sorted, compared, opened in a panel, deleted, exported and imported.

const LOOK_MS = 3000; // milliseconds between two checks for new runs

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  if (["button", "input", "select"].includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? String(+value.toPrecision(4)) : String(value);
}

class Browser {
  constructor(model, el) {
    Object.assign(this, { model, chosen: new Set(), sorted: ["finished", -1] });
    const button = (text, title, act) => make("button", { type: "button", title, onclick: act }, text);
    this.filter = make("input", { type: "text", ariaLabel: "filter", size: 30, placeholder: "filter by words, or by knob=value", oninput: () => this.table() });
    this.kind = make("select", { ariaLabel: "experiment", onchange: () => this.send("show", { experiment: this.kind.value }) });
    this.number = make("select", { ariaLabel: "number to compare" });
    this.along = make("select", { ariaLabel: "knob on the horizontal axis" });
    this.file = make("input", { type: "file", accept: ".zip", ariaLabel: "import a bundle of runs", onchange: async () => {
      const [given] = this.file.files;
      if (given) this.model.send({ do: "bring", file: given.name }, undefined, [await given.arrayBuffer()]);
      this.file.value = "";
    } });
    const picked = () => ({ ids: [...this.chosen] });
    this.remove = button("Delete", "Delete the chosen runs", () => {
      if (this.sure !== this.chosen.size) {
        this.sure = this.chosen.size;
        this.remove.textContent = `Delete ${this.sure}? Press again`;
        return;
      }
      this.calm();
      this.send("delete", picked());
    });
    this.open = button("Open", "Open the chosen run in a panel. If several runs are chosen, the others are pinned", () => this.send("open", picked()));
    this.export = button("Export", "Write the chosen runs to one file", () => this.send("export", picked()));
    const bring = button("Import…", "Read runs from a file that Export has written", () => this.file.click());
    this.file.hidden = true;
    const bar = make("div", { className: "wb-bar" }, this.kind, this.filter, this.open, this.remove, this.export, bring, this.file);
    this.compare = make("div", { className: "wb-bar" }, "compare", this.number, "against", this.along,
      button("Draw", "Draw this number for all runs in the table", () =>
        this.send("compare", { ids: this.rows().map((row) => row.id), number: this.number.value, along: this.along.value })));
    this.message = make("div", { className: "wb-message", role: "status" });
    this.body = make("div", { className: "wb-table" });
    this.image = make("div", { className: "wb-image wb-compared" });
    el.classList.add("wb-outer");
    el.append(make("div", { className: "wb-runs", role: "group", ariaLabel: "runs" }, bar, this.compare, this.message, this.body, this.image));
    const on = { "change:view": () => this.apply(), "msg:custom": (message, buffers) => this.told(message, buffers) };
    for (const [name, act] of Object.entries(on)) model.on(name, act);
    const timer = setInterval(() => this.look(), LOOK_MS);
    this.stopListening = () => {
      clearInterval(timer);
      Object.entries(on).forEach(([name, act]) => model.off(name, act));
    };
    this.apply();
  }

  send(what, more = {}) {
    this.model.send({ do: what, ...more });
  }

  /** Ask the kernel for new runs if the table is visible. Wait for each reply first, since the kernel may be busy. */
  look() {
    const { top, bottom } = this.body.getBoundingClientRect();
    const seen = document.visibilityState === "visible" && bottom > 0 && top < window.innerHeight;
    if (!seen || this.looking || this.sure || this.image.innerHTML) return;
    this.looking = true;
    this.send("look");
  }

  calm() {
    this.sure = null;
    this.remove.textContent = "Delete";
    for (const act of [this.open, this.remove, this.export]) act.disabled = !this.chosen.size;
  }

  apply() {
    const view = (this.view = this.model.get("view"));
    const options = (select, values, chosen) => {
      select.replaceChildren(...values.map((value) => make("option", { value, selected: value === chosen }, value)));
    };
    options(this.kind, view.experiments, view.experiment);
    options(this.number, view.numbers, this.number.value || view.numbers[0]);
    this.compare.hidden = !view.numbers.length; // there are numbers only if one experiment is chosen
    options(this.along, view.knobs, this.along.value || view.knobs[0]);
    this.chosen = new Set([...this.chosen].filter((id) => view.rows.some((row) => row.id === id)));
    this.message.textContent = view.message;
    this.image.innerHTML = view.svg; // safe, because the kernel's SVG writer escapes all text
    this.image.firstElementChild?.setAttribute("role", "img");
    this.image.firstElementChild?.setAttribute("aria-label", view.message);
    this.table();
  }

  /** Return the rows that match the filter, sorted. */
  rows() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const match = (row) => words.every((word) => {
      const [name, value] = word.split("=");
      if (value !== undefined) return shown(row[name]).toLowerCase() === value;
      return Object.values(row).some((cell) => shown(cell).toLowerCase().includes(word));
    });
    const [name, sign] = this.sorted;
    const order = (a, b) => (typeof a[name] === "number" && typeof b[name] === "number" ? a[name] - b[name] : shown(a[name]).localeCompare(shown(b[name])));
    return this.view.rows.filter(match).sort((a, b) => sign * order(a, b));
  }

  table() {
    this.calm();
    const columns = this.view.columns;
    const head = columns.map((name) =>
      make("th", { scope: "col" }, make("button", { type: "button", title: `sort by ${name}`, onclick: () => {
        this.sorted = [name, this.sorted[0] === name ? -this.sorted[1] : 1];
        this.table();
      } }, name)));
    const line = (row) => {
      const box = make("input", { type: "checkbox", ariaLabel: `choose ${row.id}`, checked: this.chosen.has(row.id), onchange: () => {
        if (box.checked) this.chosen.add(row.id);
        else this.chosen.delete(row.id);
        this.calm();
      } });
      return make("tr", { title: row.id }, make("td", {}, box), ...columns.map((name) => make("td", {}, shown(row[name]))));
    };
    const rows = this.rows();
    this.body.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), ...head)), make("tbody", {}, ...rows.map(line))));
  }

  told(message, buffers) {
    if (message.do === "looked") this.looking = false;
    if (message.do !== "download") return;
    const url = URL.createObjectURL(new Blob([buffers[0]], { type: "application/zip" }));
    make("a", { href: url, download: message.name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}

export default {
  render({ model, el }) {
    const browser = new Browser(model, el);
    return () => browser.stopListening();
  },
};
