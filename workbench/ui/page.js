// The model of a page without a kernel. It answers the panel with pictures that are stored in the page: the pictures of one
// run, or those of a lattice (all combinations of a few values of some knobs).

const data = JSON.parse(document.getElementById("wb-data").textContent);

class PageModel {
  constructor({ spec, view, picture, frames, lattice }) {
    Object.assign(this, { state: { spec, view, picture }, frames, lattice, heard: {} });
    this.lines = [];
    if (lattice) for (const frame of frames) this.lines.push(...frame.lines);
  }

  get(name) {
    return this.state[name];
  }

  on(name, act) {
    (this.heard[name] ??= new Set()).add(act);
  }

  off(name, act) {
    this.heard[name]?.delete(act);
  }

  tell(name, ...given) {
    for (const act of this.heard[name] ?? []) act(...given);
  }

  send(message) {
    if (message.do === "hello" && !this.lattice) for (const frame of this.frames) this.tell("msg:custom", { do: "frame", ...frame });
    if (message.do === "set" && this.lattice) this.move(message);
  }

  /** Show the picture of the lattice point whose values are nearest to those of the knobs. */
  move({ seq, knobs }) {
    const values = { ...this.state.view.values };
    for (const [name, { value, text }] of Object.entries(knobs)) {
      const marks = this.lattice[name];
      if (!marks) continue;
      const wanted = value ?? Number(text);
      const at = marks.findIndex((mark) => JSON.stringify(mark) === JSON.stringify(wanted));
      const distance = marks.map((mark) => Math.abs(mark - wanted));
      const found = at >= 0 ? marks[at] : marks[distance.indexOf(Math.min(...distance))] ?? marks[0];
      values[name] = [found, String(found)];
    }
    const index = Object.entries(this.lattice).reduce(
      (sum, [name, marks]) => sum * marks.length + marks.findIndex((mark) => JSON.stringify(mark) === JSON.stringify(values[name][0])), 0);
    const { ids, told, place } = this.frames[index];
    this.state.picture = { svg: ids.map((id) => this.lines[id]).join("\n"), story: told, place, seq };
    this.state.view = { ...this.state.view, seq, values };
    this.tell("change:picture");
    this.tell("change:view");
  }
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => { document.body.dataset.jpThemeLight = String(!dark.matches); };
dark.addEventListener("change", theme);
theme();
widget.render({ model: new PageModel(data), el: document.getElementById("wb-panel") });
