// The panel in the browser: knobs, Run, a picture, and a time slider. It is the same for all methods. The model provides the data:
//   spec     the constant part: knobs, groups, presets, questions
//   view     the current state: values, errors, phase, progress, pinned runs, code
//   picture  the current SVG, the text above it, and its position in the run
// Messages from the kernel bring pictures of the run for the time slider, and files to download. Each action of the user is sent
// to the kernel as a message {do: ...}. In a page without a kernel, the model in page.js answers these messages.

const KEYED = ["button", "input", "select", "summary", "textarea"];
const LONG = 28; // a value with more characters does not fit into one line
const ANSWER_MS = 4000; // milliseconds without a reply, after which the panel reports that the kernel does not answer
const FRAME_MS = 300; // milliseconds between two pictures during a replay

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list" && name !== "form") node[name] = value;
    else node.setAttribute(name, value);
  }
  // Without this attribute, JupyterLab's shortcuts also receive the keys: an arrow key on a slider would select another cell.
  if (KEYED.includes(tag)) node.setAttribute("data-lm-suppress-shortcuts", "true");
  node.append(...children);
  return node;
}

/** Show text with its numbers in bold. The text is never interpreted as markup. */
function story(node, text) {
  node.replaceChildren(
    ...text.split(/((?<![\w₀-₉])[+−-]?\d(?:[\d,.]*\d)?(?:e[+-]?\d+)?[⁰-⁹⁻¹²³]*(?:\s?%)?)/u).map((part, at) => (at % 2 ? make("b", {}, part) : part)),
  );
}

/** Return the text that shows a number beside its slider. */
function shown(value) {
  return typeof value === "number" ? String(+value.toPrecision(6)) : String(value);
}

class Knob {
  constructor(spec, id, set, upload) {
    Object.assign(this, { spec, id, set });
    this.input = this[spec.kind]();
    this.input.id = id;
    this.input.setAttribute("aria-describedby", `${id}-error`);
    const name = make("b", {}, spec.label);
    const unit = spec.unit ? make("span", { className: "wb-unit" }, ` ${spec.unit}`) : "";
    const label = make("label", { htmlFor: id }, name, unit);
    const letters = (said) => said.toLowerCase().replace(/[^a-z0-9]/g, "");
    const code = letters(spec.label) === letters(spec.name) ? "" : make("code", { title: spec.help }, spec.name);
    const help = make("button", {
      className: "wb-help", type: "button", ariaLabel: `what is ${spec.label}?`, ariaExpanded: "false", title: spec.help,
      onclick: () => {
        this.about.hidden = !this.about.hidden;
        help.ariaExpanded = String(!this.about.hidden);
      },
    }, "?");
    this.about = make("div", { className: "wb-about", hidden: true }, spec.help);
    this.reason = make("div", { className: "wb-reason", hidden: true });
    this.error = make("div", { className: "wb-error", id: `${id}-error`, hidden: true, role: "alert" });
    const head = make("div", { className: "wb-head" }, label, make("span", { className: "wb-space" }), code, help);
    const body = make("div", { className: "wb-input" }, this.input);
    if (this.number) body.append(this.number);
    if (spec.file) body.append(...this.file(upload)); // this also sets this.upload, the button
    if (this.menu) body.append(this.menu);
    this.node = make("div", { className: `wb-knob wb-${spec.kind}` }, head, this.about, body, this.reason, this.error);
    if (spec.kind === "check") head.prepend(this.input);
    this.node.dataset.knob = spec.name;
  }

  /** Make a slider over a range or over a list of marks, with a text box for any number in the range. */
  slider() {
    const { marks, low, high, step, label } = this.spec;
    const range = make("input", { type: "range", min: marks ? 0 : low, max: marks ? marks.length - 1 : high, step: marks ? 1 : step });
    this.number = make("input", { type: "text", className: "wb-number", ariaLabel: `${label}, as a number`, inputMode: "decimal" });
    range.addEventListener("input", () => {
      const value = marks ? marks[range.valueAsNumber] : range.valueAsNumber;
      this.number.value = shown(value);
      this.set({ value });
    });
    this.typed(this.number);
    return range;
  }

  select() {
    const options = this.spec.options.map(([text], at) => make("option", { value: at }, text));
    return make("select", { onchange: (event) => this.set({ value: this.options[event.target.selectedIndex] }) }, ...options);
  }

  get options() {
    return this.extra === undefined ? this.spec.options.map((o) => o[1]) : [...this.spec.options.map((o) => o[1]), this.extra];
  }

  check() {
    return make("input", { type: "checkbox", onchange: (event) => this.set({ value: event.target.checked }) });
  }

  text() {
    if (this.spec.options.some(([text]) => text.length > LONG)) return this.area();
    const choices = this.spec.options.map(([text]) => make("option", { value: text }));
    const list = make("datalist", { id: `${this.id}-list` }, ...choices);
    const input = this.typed(make("input", { type: "text", spellcheck: false }));
    if (choices.length) {
      input.setAttribute("list", list.id);
      input.append(list);
    }
    return input;
  }

  /** Send the text of a box when it has been typed. Until then, no message from the kernel may replace the text. */
  typed(box) {
    box.addEventListener("input", () => { this.typing = true; });
    box.addEventListener("blur", () => { this.typing = false; });
    box.addEventListener("change", () => {
      this.typing = false;
      this.set({ text: box.value });
    });
    return box;
  }

  /** Make a text box with several lines for long lists, with a menu of examples below it. */
  area() {
    const area = this.typed(make("textarea", { spellcheck: false, rows: 3 }));
    const offered = this.spec.options.map(([text], at) => make("option", { value: at }, text));
    this.menu = make("select", {
      ariaLabel: `examples of ${this.spec.label}`,
      onchange: () => {
        this.set({ value: this.spec.options[this.menu.value][1] });
        this.menu.value = -1;
      },
    }, make("option", { value: -1 }, "choose an example"), ...offered);
    return area;
  }

  /** Make a button that opens the browser's file dialog. */
  file(upload) {
    const { file, label, name } = this.spec;
    const pick = make("input", {
      type: "file", accept: file, ariaLabel: `file for ${label}`, className: "wb-file", hidden: true,
      onchange: async () => {
        const chosen = pick.files[0];
        if (chosen) upload(name, chosen.name, await chosen.arrayBuffer());
        pick.value = "";
      },
    });
    this.upload = make("button", { type: "button", title: `upload a ${file} file`, onclick: () => pick.click() }, "Upload…");
    return [this.upload, pick];
  }

  show(value, text, { error, choose, idle, changed, high }) {
    const { input, spec } = this;
    if (spec.kind === "check") input.checked = value;
    else if (spec.kind === "text" && !this.typing) input.value = text;
    else if (spec.kind === "select") this.choose(value, text);
    else if (spec.kind === "slider") {
      if (high !== undefined && high !== null && !spec.marks) input.max = high;
      if (!error) input.value = spec.marks ? nearest(spec.marks, value) : value;
      if (!this.typing) this.number.value = text;
      this.number.disabled = Boolean(idle);
      input.setAttribute("aria-valuetext", text);
    }
    input.disabled = Boolean(idle);
    input.setAttribute("aria-invalid", String(Boolean(error)));
    this.node.classList.toggle("wb-off", Boolean(idle));
    this.node.classList.toggle("wb-changed", Boolean(changed));
    this.reason.textContent = idle || "";
    this.reason.hidden = !idle;
    const said = error || choose || "";
    this.error.className = error ? "wb-error" : "wb-choose"; // it is not an error that no file is chosen yet
    this.error.role = error ? "alert" : "status";
    if (this.error.textContent !== said) this.error.textContent = said;
    this.error.hidden = !said;
    this.upload?.classList.toggle("wb-primary", Boolean(choose));
  }

  choose(value, text) {
    const key = JSON.stringify(value);
    let at = this.spec.options.findIndex((o) => JSON.stringify(o[1]) === key);
    if (at < 0) { // the value is not among the options: add one
      this.extra = value;
      at = this.spec.options.length;
      this.input.options[at] = new Option(text, at);
    }
    this.input.selectedIndex = at;
  }
}

function nearest(marks, value) {
  const distance = marks.map((mark) => Math.abs(mark - value));
  return distance.indexOf(Math.min(...distance));
}

const NEAR = 9; // largest distance between the pointer and a point whose values are shown, in units of the SVG
const points = new WeakMap(); // the points of each picture, which are parsed once

/** Show the values of the point that is nearest to the pointer, if it is near enough. */
function hover(image) {
  const tip = make("div", { className: "wb-tip", hidden: true });
  image.after(tip);
  image.addEventListener("pointerleave", () => { tip.hidden = true; });
  image.addEventListener("pointermove", (event) => {
    tip.hidden = true;
    const svg = event.target.closest?.("svg");
    const data = svg?.querySelector("metadata.wb-points");
    if (!data) return;
    if (!points.has(svg)) points.set(svg, JSON.parse(data.textContent));
    const matrix = svg.getScreenCTM();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let [best, far] = [null, NEAR];
    for (const axes of points.get(svg)) {
      for (const point of axes.points) {
        const distance = Math.hypot(point[0] - at.x, point[1] - at.y);
        if (distance < far) [best, far] = [[axes, point], distance];
      }
    }
    if (!best) return;
    const [axes, [x, y, ...said]] = best;
    const value = (label, text) => (label && !text.startsWith(label) ? `${label}: ${text}` : text);
    tip.textContent = [said[2], value(axes.x, said[0]), value(axes.y, said[1])].filter(Boolean).join("\n");
    tip.hidden = false;
    const place = new DOMPoint(x, y).matrixTransform(matrix);
    const frame = tip.offsetParent.getBoundingClientRect();
    const left = Math.min(place.x - frame.left + 10, frame.width - tip.offsetWidth - 2);
    tip.style.left = `${Math.max(left, 0)}px`;
    tip.style.top = `${Math.max(place.y - frame.top - tip.offsetHeight - 8, 0)}px`;
  });
}

/** The pictures of a run as lists of lines. Each line of markup is stored once, since successive pictures share most lines. */
class Frames {
  constructor() {
    this.clear(-1, 0);
  }

  clear(run, count) {
    Object.assign(this, { run, count, lines: [], frames: new Map() });
  }

  add({ run, at, lines, ids, told, place }) {
    if (run !== this.run) return;
    this.lines.push(...lines);
    this.frames.set(at, { ids, story: told, place });
  }

  get(at) {
    const found = this.frames.get(at);
    return found && { ...found, svg: found.ids.map((id) => this.lines[id]).join("\n") };
  }
}

class Panel {
  constructor(model, el) {
    Object.assign(this, { model, id: `wb-${crypto.randomUUID().slice(0, 8)}`, seq: 0, waiting: null, wanted: null, latencies: [], opening: true });
    this.spec = model.get("spec");
    this.frames = new Frames();
    this.root = make("div", { className: "wb", role: "group", ariaLabel: this.spec.title });
    this.root.dataset.experiment = this.spec.name;
    this.root.panel = this; // tests read the latencies from it
    this.root.append(this.left(), this.right());
    this.root.addEventListener("keydown", (event) => this.key(event));
    el.append(this.root);
    this.listen();
    this.apply();
    this.draw(model.get("picture"));
    this.send({ do: "hello" });
  }

  listen() {
    const on = { "change:view": () => this.apply(), "change:picture": () => this.draw(this.model.get("picture")) };
    on["msg:custom"] = (message, buffers) => this.told(message, buffers);
    for (const [name, act] of Object.entries(on)) this.model.on(name, act);
    this.stopListening = () => {
      for (const [name, act] of Object.entries(on)) this.model.off(name, act);
      clearInterval(this.timer);
    };
  }

  send(message, buffers) {
    if (!["set", "hello", "frame"].includes(message.do)) this.flush(); // Run must use the values that the user sees
    if (message.do !== "hello" && message.do !== "frame") this.unanswered ??= setTimeout(() => this.silent(), ANSWER_MS);
    try {
      this.model.send(message, undefined, buffers);
    } catch {
      this.silent();
    }
  }

  silent() {
    this.quiet = true;
    this.message.textContent = "the kernel does not answer: it is busy with another cell, or it was restarted. After a restart, run this cell again";
    this.message.classList.add("wb-error");
  }

  // -- elements --------------------------------------------------------------------------------------------------------

  left() {
    const { spec } = this;
    this.knobs = Object.fromEntries(
      spec.knobs.map((knob) => [
        knob.name,
        new Knob(knob, `${this.id}-${knob.name}`, (what) => this.set(knob.name, what), (name, file, data) =>
          this.send({ do: "upload", name, file }, [data])),
      ]),
    );
    const parts = [];
    this.summaries = [];
    if (spec.questions.length) {
      const offered = spec.questions.map((question, at) => make("option", { value: at }, question.title));
      this.question = make("select", {
        className: "wb-question", ariaLabel: "choose a question, and guess the answer",
        onchange: (event) => this.send({ do: "ask", at: Number(event.target.value) }),
      }, make("option", { value: -1 }, "Guess first: a question…"), ...offered);
      parts.push(this.question);
    }
    for (const [title, names, open] of spec.groups) {
      const inside = names.map((name) => this.knobs[name].node);
      if (open) parts.push(...inside);
      else {
        const summary = make("summary", {});
        this.summaries.push({ summary, title, names });
        parts.push(make("details", {}, summary, ...inside));
      }
    }
    if (spec.presets.length) {
      const preset = (scale) => make("button", { type: "button", onclick: () => this.send({ do: "preset", scale }) }, scale);
      parts.push(make("div", { className: "wb-presets" }, "presets: ", ...spec.presets.map(preset)));
    }
    return make("div", { className: "wb-left", role: "group", ariaLabel: "knobs", hidden: !spec.knobs.length }, ...parts);
  }

  right() {
    const button = (text, title, act, style = "") =>
      make("button", { type: "button", className: style, title, onclick: act }, text);
    this.run = button("▶ Run", "Run (Enter in a knob)", () => this.send({ do: "run" }), "wb-primary");
    this.stop = button("■ Stop", "Stop after this step (Escape)", () => this.send({ do: "stop" }));
    this.pin = button("Pin", "Keep this run in the picture, so that later runs are compared with it", () => this.send({ do: "pin" }));
    this.reset = button("Reset", "Set all knobs to their initial values", () => this.send({ do: "reset" }));
    this.bar = make("progress", { max: 1, value: 0, ariaLabel: "progress of the run" });
    this.phase = make("span", { className: "wb-phase", role: "status" });
    const actions = make("div", { className: "wb-bar" },
      ...(this.spec.instant ? [] : [this.run, this.stop]), ...(this.spec.pins ? [this.pin] : []), this.reset,
      ...(this.spec.instant ? [] : [this.bar]), this.phase);
    actions.hidden = !this.spec.kernel;
    this.ask = make("div", { className: "wb-ask", hidden: true, role: "group", ariaLabel: "question" });
    this.pins = make("div", { className: "wb-pins", hidden: true });
    this.story = make("div", { className: "wb-story", ariaLive: "polite" });
    this.stale = make("div", { className: "wb-stale", hidden: true, role: "status" });
    this.image = make("div", { className: "wb-image" });
    this.code = make("textarea", { className: "wb-code", readOnly: true, hidden: true, ariaLabel: "code that repeats this run", rows: 5 });
    this.picture = make("div", { className: "wb-picture" }, this.image, this.stale, this.code); // the code covers part of the picture
    hover(this.image);
    return make("div", { className: "wb-right" }, actions, this.ask, this.story, this.pins, this.picture, this.time(), this.foot(button));
  }

  time() {
    this.play = make("button", { type: "button", title: "Play the run again", ariaLabel: "Play", onclick: () => this.toggle() }, "▶");
    this.scrub = make("input", { type: "range", min: 0, max: 0, step: 1, ariaLabel: "position in the run", oninput: () => this.at(this.scrub.valueAsNumber) });
    this.place = make("output", { className: "wb-place" });
    this.timeline = make("div", { className: "wb-time" }, this.play, this.scrub, this.place);
    return this.timeline;
  }

  foot(button) {
    this.message = make("span", { className: "wb-message", role: "status" });
    this.kind = make("select", { ariaLabel: "format of the figure" }, ...["png", "svg", "pdf"].map((kind) => make("option", {}, kind)));
    const figure = button("Figure", "Save the picture in the runs folder, and download it", () => this.send({ do: "save", kind: this.kind.value }));
    const kernel = this.spec.kernel ? [figure, this.kind, button("CSV", "Save the records in the runs folder, and download them", () => this.send({ do: "save", kind: "csv" }))] : [];
    const code = this.spec.code ? [
      button("Code", "Copy the Python call that repeats this run, and show it", () => this.copy("code")),
      button("Link", "Copy one line of text that describes the state of this panel", () => this.copy("link"))] : [];
    return make("div", { className: "wb-foot" }, this.message, ...code, ...kernel);
  }

  // -- display of the state --------------------------------------------------------------------------------------------

  apply() {
    clearTimeout(this.unanswered);
    this.unanswered = null;
    const view = this.model.get("view");
    this.view = view;
    if (view.seq >= this.seq) { // otherwise, it answers an older move, and the slider has moved since
      for (const [name, knob] of Object.entries(this.knobs)) {
        const [value, text] = view.values[name];
        knob.show(value, text, {
          error: view.errors[name], choose: view.to_choose[name], idle: view.idle[name], changed: view.changed.includes(name), high: view.high[name],
        });
      }
    }
    for (const group of this.summaries) {
      const { summary, title, names } = group;
      const [changed, refused] = [names.filter((name) => view.changed.includes(name)).length, names.some((name) => view.errors[name])];
      const choose = names.some((name) => view.to_choose[name]) ? ", choose a file" : "";
      summary.textContent = `${title} (${names.length}${changed ? `, ${changed} changed` : ""}${refused ? ", 1 refused" : choose})`;
      const calls = names.find((name) => view.errors[name] || view.to_choose[name]);
      if (calls && calls !== group.calls) { // a message in a closed group would be hidden
        summary.parentElement.open = true;
        this.knobs[calls].node.scrollIntoView({ block: "nearest" });
      }
      group.calls = calls;
      summary.classList.toggle("wb-changed", changed > 0);
      summary.classList.toggle("wb-error", refused);
    }
    if (this.waiting !== null) this.next();
    this.run.disabled = view.busy;
    this.stop.disabled = !view.busy;
    this.root.classList.toggle("wb-busy", view.busy);
    this.bar.value = view.progress;
    this.phase.textContent = view.phase;
    this.phase.title = view.phase;
    if (view.message !== this.before || this.quiet) this.message.textContent = this.before = view.message; // otherwise, keep a message of this script
    this.quiet = false;
    this.message.title = view.about || view.message;
    this.message.classList.toggle("wb-error", view.failed);
    this.stale.textContent = view.stale;
    this.stale.hidden = !view.stale;
    this.picture.classList.toggle("wb-dim", view.dim || Boolean(view.stale));
    if (!this.code.hidden) this.code.value = view[this.copied];
    this.showPins(view.pins);
    this.showQuestion(view.question);
    this.showTimeline(view.frames);
  }

  showPins(pins) {
    const key = JSON.stringify(pins);
    if (key === this.pinned) return; // buttons that are replaced at every change of the view cannot be pressed
    this.pinned = key;
    this.pins.hidden = !pins.length;
    this.pins.replaceChildren("pinned: ", ...pins.map((label, at) =>
      make("button", { type: "button", title: `unpin ${label}`, ariaLabel: `unpin ${label}`, onclick: () => this.send({ do: "unpin", at }) }, `${label} ×`)));
  }

  showQuestion(question) {
    const key = JSON.stringify(question);
    if (key === this.asked) return;
    this.asked = key;
    this.ask.hidden = !question;
    // the title of the picture, or the answer, contains this text, and the picture needs the space
    this.story.hidden = this.spec.titled || Boolean(question?.answer);
    if (this.question) this.question.value = -1; // only a menu; the full question is shown below
    if (!question) return;
    const { title, text, sets, answers } = this.spec.questions[question.at];
    const { answer } = question;
    const offered = answers.map((said, guess) =>
      make("button", {
        type: "button", disabled: question.guess !== null, ariaPressed: String(question.guess === guess),
        onclick: () => this.send({ do: "guess", guess }),
      }, said));
    const close = make("button", {
      type: "button", className: "wb-close", ariaLabel: "close the question", title: "close", onclick: () => this.send({ do: "ask", at: -1 }),
    }, "×");
    const paragraph = (said, style) => (said ? [make("p", { className: style }, said)] : []);
    const words = answer
      ? [make("p", {}, make("b", {}, `${title} `), answer.measured, " ", make("b", { className: "wb-right-answer" }, `${answer.answer}.`), ` ${answer.reply}`),
        ...paragraph(answer.why, ""), ...paragraph(answer.ledger, "wb-ledger")]
      : [make("p", {}, make("b", {}, `${title} `), text), ...paragraph(sets && `This question also sets ${sets}.`, "wb-reason")];
    const told = make("div", { className: "wb-words", ariaLive: "polite" }, ...words);
    this.ask.replaceChildren(close, told, ...(answer ? [] : [make("div", { className: "wb-answers" }, ...offered)]));
  }

  showTimeline({ run, count }) {
    this.timeline.hidden = this.spec.instant;
    this.scrub.disabled = this.play.disabled = this.view.busy || count < 2;
    if (this.view.busy) {
      this.halt();
      this.moment = null; // a late picture of an earlier run must not replace the current one
    }
    if (run === this.frames.run && count === this.frames.count) return;
    this.frames.clear(run, count);
    this.halt();
    this.moment = null;
    const { svg, story: told, place } = this.model.get("picture");
    this.paint(svg, told, place);
    this.scrub.max = Math.max(count - 1, 0);
    this.scrub.value = this.scrub.max;
    if (this.spec.plays && this.opening && count > 1 && !this.view.busy) this.at(0); // a finished run is shown from its first moment
    this.play.classList.toggle("wb-primary", this.scrub.value !== this.scrub.max);
    this.opening = false;
  }

  draw({ svg, story: told, place, seq }) {
    this.paint(svg, told, place);
    if (seq && this.moved?.[0] <= seq) {
      const [, when] = this.moved;
      this.moved = null;
      requestAnimationFrame(() => this.latencies.push(performance.now() - when));
    }
  }

  paint(svg, told, place) {
    if (svg !== this.svg) {
      this.svg = svg;
      this.image.innerHTML = svg; // safe, because the kernel's SVG writer escapes all text
      const drawn = this.image.firstElementChild;
      drawn?.setAttribute("role", "img");
      drawn?.setAttribute("aria-label", told);
    }
    if (told !== this.said) story(this.story, (this.said = told));
    this.place.textContent = place;
  }

  // -- actions ---------------------------------------------------------------------------------------------------------

  /** Send the new value of a knob. While the kernel handles one move, later moves are collected, with the last value of each knob. */
  set(name, what) {
    this.seq += 1;
    this.moved ??= [this.seq, performance.now()];
    if (this.waiting !== null) {
      this.wanted = { ...this.wanted, [name]: what };
      return;
    }
    this.waiting = this.seq;
    this.send({ do: "set", seq: this.seq, knobs: { [name]: what } });
  }

  next() {
    if (this.view.seq < this.waiting) return;
    this.waiting = null;
    this.flush();
  }

  /** Send the moves that were collected. */
  flush() {
    if (!this.wanted) return;
    const knobs = this.wanted;
    this.wanted = null;
    this.waiting = this.seq;
    this.moved = [this.seq, performance.now()];
    this.send({ do: "set", seq: this.seq, knobs });
  }

  key(event) {
    const field = event.target.matches("input, select") && !event.target.classList.contains("wb-file");
    if (event.key === "Enter" && field && !this.spec.instant && !this.view.busy) {
      event.preventDefault();
      event.target.blur(); // so that the browser sends the change event of a number that was typed
      event.target.focus();
      this.send({ do: "run" });
    } else if (event.key === "Escape" && this.view.busy) this.send({ do: "stop" });
    else return;
    event.stopPropagation();
  }

  at(moment) {
    this.scrub.value = moment;
    this.moment = moment;
    const found = this.frames.get(moment);
    if (found) this.paint(found.svg, found.story, found.place);
    else this.send({ do: "frame", run: this.frames.run, at: moment });
  }

  toggle() {
    this.play.classList.remove("wb-primary");
    if (this.timer) return this.halt();
    if (this.scrub.value === this.scrub.max) this.at(0);
    this.play.textContent = "❚❚";
    this.play.ariaLabel = "Pause";
    this.timer = setInterval(() => {
      const moment = this.scrub.valueAsNumber + 1;
      if (moment >= this.frames.count) this.halt();
      else this.at(moment);
    }, FRAME_MS);
  }

  halt() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "▶";
    this.play.ariaLabel = "Play";
  }

  /** Copy the code or the link, and show it. If it is shown already, hide it. */
  async copy(what) {
    this.code.hidden = !this.code.hidden && this.copied === what;
    this.copied = what;
    if (this.code.hidden) return;
    this.code.value = this.view[what];
    this.code.ariaLabel = what === "code" ? "code that repeats this run" : "link to the state of this panel";
    try {
      await navigator.clipboard.writeText(this.view[what]);
      this.message.textContent = `${what} copied to the clipboard`;
    } catch {
      this.code.select();
      this.message.textContent = `press Ctrl+C to copy the ${what}`;
    }
  }

  told(message, buffers) {
    if (message.do === "frame") {
      this.frames.add(message);
      if (this.moment === message.at && this.scrub.valueAsNumber === message.at) this.at(message.at);
    } else if (message.do === "download") {
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: message.mime }));
      make("a", { href: url, download: message.name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    }
  }
}

/** Show a picture with the text above it, without a panel. */
function alone(model, el) {
  const told = make("div", { className: "wb-story", ariaLive: "polite" });
  const image = make("div", { className: "wb-image" });
  el.append(make("div", { className: "wb-alone" }, told, image));
  hover(image);
  const draw = () => {
    const { svg, story: said, titled } = model.get("picture");
    told.hidden = titled; // the title of the picture contains this text
    story(told, said);
    if (image.innerHTML !== svg) image.innerHTML = svg; // see Panel.paint
    image.firstElementChild?.setAttribute("role", "img");
    image.firstElementChild?.setAttribute("aria-label", said);
  };
  model.on("change:picture", draw);
  draw();
  return () => model.off("change:picture", draw);
}

export default {
  render({ model, el }) {
    el.classList.add("wb-outer");
    if (!model.get("spec")) return alone(model, el);
    const panel = new Panel(model, el);
    return () => panel.stopListening();
  },
};
