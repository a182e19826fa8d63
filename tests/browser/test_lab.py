"""A person opens each explore notebook in JupyterLab: panels fit the screen, follow the hand, and say what they do."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

READY = """() => { const k = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
    return k && k.connectionStatus === 'connected' && k.status === 'idle' }"""
# the prompts of the cells, not what is seen of them: a cell whose source is folded shows none
DONE = """() => { const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
    const prompts = content.widgets.filter(c => c.model.type === 'code').map(c => c.inputArea.promptNode.textContent);
    return sessionContext.session.kernel.status === 'idle' && prompts.length && !prompts.some(t => t.includes('*')) }"""
OURS = ("workbench", "ipywidgets", "anywidget", "jupyter-widgets", "Uncaught", "TypeError", "ReferenceError")
SIZES = {(1360, 800): 640, (1920, 1080): 800}  # of the window, and how high a panel may be in it, in pixels
NOTEBOOKS = {
    "quantization/01-explore": 2,
    "synapse/01-explore": 3,
    "continual/01-explore": 4,
    "adapters/01-explore": 3,
}  # panels in each
# cut off: what does not fit into its box, except where one scrolls or where three dots say so
CUT = """panel => [...panel.querySelectorAll('.wb-head b, button, .wb-bar, .wb-foot, .wb-time, .wb-ask, .wb-story, .wb-image')]
    .filter(e => e.offsetParent && (e.scrollWidth > e.clientWidth + 1) && getComputedStyle(e).display !== 'inline')
    .map(e => `${e.className} ${e.textContent.slice(0, 40)}`)"""
NAMELESS = """panel => [...panel.querySelectorAll('input, select, textarea, button')].filter(e => !(e.ariaLabel
    || e.localName === 'button' && e.textContent.trim() || e.labels?.length || e.title)).map(e => e.outerHTML.slice(0, 120))"""


# presses Run; milliseconds, in the browser, until the panel says what it does, and until its picture is another one
RUN = """async panel => { const [phase, image] = ['phase', 'image'].map(name => panel.querySelector(`.wb-${name}`));
    const was = image.innerHTML, start = performance.now();
    panel.querySelector('.wb-primary').click();
    const until = seen => new Promise(done => { const look = () => seen() ? done(Math.round(performance.now() - start))
        : requestAnimationFrame(look); look(); });
    return [await until(() => phase.textContent), await until(() => image.innerHTML !== was)]; }"""


class Visit:
    """A notebook that is open in a window, all cells run; `panel(k)` is the k-th panel in it."""

    def __init__(self, page, lab, path, where="lab"):
        self.page, self.problems = page, []
        page.on("pageerror", lambda error: None if of_jupyterlab(error) else self.problems.append(str(error)))
        page.on(
            "console", lambda m: self.problems.append(m.text) if m.type == "error" and any(w in m.text for w in OURS) else None
        )
        page.goto(lab.url(f"{where}/tree/{path}"))
        if where == "lab":
            page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(READY)
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        time.sleep(1)
        page.wait_for_function(DONE)

    def panel(self, which):
        found = self.page.locator(".wb").nth(which)
        found.locator("svg").first.wait_for()
        found.scroll_into_view_if_needed()
        return found

    def theme(self, name):
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", f"JupyterLab {name}"
        )
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=f"JupyterLab {name}")

    def shot(self, name):
        folder = Path("runs") / "browser"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(folder / f"{name}.png"))


@pytest.fixture(scope="session")
def notebook(window, lab):
    """Opens a notebook once for all tests, and hands it over as it was at first: light, 1360 x 800, nothing asked or pinned."""
    opened = {}

    def visit(path, where="lab"):
        if path not in opened:
            opened[path] = Visit(window(), lab, f"notebooks/{path}.ipynb", where)
        found = opened[path]
        found.page.bring_to_front()
        found.page.set_viewport_size({"width": 1360, "height": 800})
        return found

    return visit


def of_jupyterlab(error):
    """Whether no code but JupyterLab's own was at work: its splash screen may be taken away twice."""
    places = [line for line in (error.stack or "").splitlines() if line.strip().startswith("at ")]
    return bool(places) and all("/static/lab/" in place for place in places)


def height(panel):
    return panel.bounding_box()["height"]


def message(panel, words):
    panel.locator(f".wb-message:has-text('{words}')").wait_for()


@pytest.fixture
def record(record_property):
    def keep(name, value):
        record_property(name, value)
        print(f"{name}: {value}")

    return keep


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_every_panel_fits_the_screen_in_every_state_and_both_themes(notebook, path, record):
    visit = notebook(path)
    assert visit.page.locator(".wb").count() == NOTEBOOKS[path]
    for size, limit in SIZES.items():
        visit.page.set_viewport_size({"width": size[0], "height": size[1]})
        for which in range(NOTEBOOKS[path]):
            panel = visit.panel(which)
            heights = in_every_state(visit.page, panel)
            for theme in ("Dark", "Light"):
                visit.theme(theme)
                panel.scroll_into_view_if_needed()
                assert panel.evaluate(CUT) == []
                assert panel.evaluate(NAMELESS) == []
                visit.shot(f"{path.replace('/', '-')}-{which + 1}-{size[0]}-{theme.lower()}")
            wide = f"{panel.bounding_box()['width']:.0f} wide"
            record(f"{path} panel {which + 1} at {size[0]}x{size[1]}, {wide}", heights)
            assert max(heights.values()) <= limit
            panel.locator("button:has-text('Code')").click()
            if panel.locator(".wb-close").count():
                panel.locator(".wb-close").click()
            while panel.locator(".wb-pins button").count():
                panel.evaluate("e => e.querySelector('.wb-pins button')?.click()")
                time.sleep(0.3)
            panel.locator("button:has-text('Reset')").click()
            panel.locator(".wb-error:visible").first.wait_for(state="hidden")
            panel.evaluate("e => e.querySelectorAll('details').forEach(group => { group.open = false })")
    assert not visit.problems


def in_every_state(page, panel):
    """Heights of a panel as it opens, with a question asked and judged, a refusal, a group open, and code in view."""
    heights = {"open": height(panel)}
    if panel.locator(".wb-question").count():
        panel.locator(".wb-question").select_option("0")
        panel.locator(".wb-ask").wait_for()
        heights["asked"] = height(panel)
        panel.locator(".wb-answers button").first.click()
        panel.locator(".wb-right-answer").wait_for()
        heights["judged"] = height(panel)
        message(panel, "done")
    number = panel.locator(".wb-number").first
    number.fill("-7777")
    number.press("Tab")
    panel.locator(".wb-error:visible").first.wait_for()
    assert "expected" in panel.locator(".wb-error:visible").first.inner_text()
    heights["refused"] = height(panel)
    if panel.locator("summary").count():
        panel.locator("summary").first.click()
        heights["a group open"] = height(panel)
    panel.locator("button:has-text('Code')").click()
    panel.locator(".wb-code").wait_for()
    heights["code"] = height(panel)
    assert page.evaluate("() => navigator.clipboard.readText()").startswith("from workbench import runs")
    return heights


def test_a_narrow_window_stacks_the_panel(notebook):
    visit = notebook("quantization/01-explore")
    visit.page.set_viewport_size({"width": 700, "height": 800})
    panel = visit.panel(0)
    knobs, picture = (panel.locator(f".wb-{name}").first.bounding_box() for name in ("left", "image"))
    assert knobs["y"] + knobs["height"] <= picture["y"]
    assert panel.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    assert panel.evaluate(CUT) == []
    assert not visit.problems


def test_the_notebook_view_has_the_whole_width(notebook, record):
    visit = notebook("quantization/02-inside", "doc")
    box = visit.panel(0).bounding_box()
    record("in /doc/tree", (round(box["width"]), round(box["height"])))
    assert box["width"] > 1100
    assert box["height"] <= 640


def latencies(page, which):
    found = page.evaluate("which => document.querySelectorAll('.wb')[which].panel.latencies", which)
    return sorted(found)


@pytest.mark.parametrize(("path", "which", "knob"), [
    ("synapse/01-explore", 0, "nonlinearity_down"), ("quantization/02-inside", 1, "correlation"), ("synapse/02-inside", 2, "up"),
    ("quantization/02-inside", 2, "alpha"), ("synapse/01-explore", 2, "digit"),
    ("continual/02-inside", 0, "power"), ("continual/01-explore", 3, "cut_at"),
    ("adapters/02-inside", 1, "tokens"), ("adapters/02-inside", 3, "size"),
])  # fmt: skip
def test_an_instant_panel_follows_the_slider(notebook, path, which, knob, record):
    visit = notebook(path)
    panel = visit.panel(which)
    slider = panel.locator(f"[data-knob={knob}] input[type=range]")
    slider.focus()
    before = panel.locator(".wb-image").inner_html()
    visit.page.evaluate("which => { document.querySelectorAll('.wb')[which].panel.latencies = [] }", which)
    for press in range(44):
        visit.page.keyboard.press("ArrowLeft" if press % 22 < 11 else "ArrowRight")
        time.sleep(0.15)
    time.sleep(1)
    found = latencies(visit.page, which)
    assert len(found) >= 30, "moves were lost"
    record(
        f"slider to picture, {path} panel {which + 1}, ms",
        {"median": round(found[len(found) // 2]), "p95": round(found[int(0.95 * len(found))])},
    )
    # faster than pictures can be made: those between are left out, the last is not
    number = slider.evaluate("""async slider => {
        for (let k = 0; k <= 30; k++) {
            slider.value = Number(slider.min) + (slider.max - slider.min) * k / 30;
            slider.dispatchEvent(new Event('input'));
            await new Promise(requestAnimationFrame);
        }
        return slider.parentElement.querySelector('.wb-number').value; }""")
    visit.page.wait_for_function(
        "panel => panel.model.get('picture').seq === panel.seq",
        arg=visit.page.evaluate_handle("which => document.querySelectorAll('.wb')[which].panel", which),
    )
    assert panel.evaluate("(e, knob) => e.panel.view.values[knob][1]", knob) == number
    assert panel.locator(".wb-image").inner_html() != before
    assert not visit.problems


def test_run_watch_stop_replay_pin_and_save(notebook, record):
    visit = notebook("quantization/01-explore")
    page, panel = visit.page, visit.panel(0)
    first = panel.locator(".wb-left input, .wb-left select").nth(1)

    # by keyboard: one key in a knob runs
    panel.evaluate("e => e.querySelectorAll('details').forEach(group => { group.open = true })")
    every = panel.locator("[data-knob=every] .wb-number")
    every.fill("1")
    start = time.monotonic()
    every.press("Enter")
    panel.locator(".wb-phase:not(:empty)").wait_for()
    record("Run to phase, s", round(time.monotonic() - start, 3))
    seen, end = set(), time.monotonic() + 120
    while len(seen) < 4 and time.monotonic() < end:
        seen.add(panel.locator(".wb-story").inner_text())
        time.sleep(0.05)
    record("Run to three live pictures, s", round(time.monotonic() - start, 2))
    assert len(seen) >= 4, "the picture does not move"
    assert "left" in panel.locator(".wb-phase").inner_text()
    every.press("Escape")
    message(panel, "stopped after")
    done, total = (int(word) for word in panel.locator(".wb-message").inner_text().split() if word.isdigit())
    assert 0 < done < total

    # again, warm, and to the end
    every.fill("64")
    every.press("Tab")
    panel.locator("[data-knob=method] select").select_option(label="gptq")
    record("Run to phase, and to first picture, warm, ms", panel.evaluate(RUN))
    message(panel, "done")

    # replay, from the pictures in the browser
    page.wait_for_function("() => document.querySelector('.wb').panel.frames.frames.size >= 10")
    scrub = panel.locator(".wb-time input")
    scrub.focus()
    start = time.monotonic()
    page.keyboard.press("Home")
    panel.locator(".wb-place:has-text('column 0 of 576')").wait_for()
    record("scrubber to picture, s", round(time.monotonic() - start, 3))
    panel.locator("button[aria-label=Play]").click()
    panel.locator(".wb-place:has-text('column 576 of 576')").wait_for()
    panel.locator("button[aria-label=Play]").wait_for()

    # pin, another run, let go
    panel.locator("button:has-text('Pin')").click()
    panel.locator("[data-knob=method] select").select_option(label="rtn")
    panel.locator(".wb-stale:has-text('press Run')").wait_for()
    panel.locator("button:has-text('Run')").click()
    panel.locator(".wb-story:has-text('pinned run (gptq)')").wait_for()
    panel.locator(".wb-pins button:has-text('gptq')").click()
    panel.locator(".wb-pins").wait_for(state="hidden")

    # the link, the file
    panel.locator("button:has-text('Link')").click()
    message(panel, "link copied")
    assert page.evaluate("() => navigator.clipboard.readText()").startswith("quantization/layer-trace@")
    with page.expect_download() as download:
        panel.locator("button:has-text('Figure')").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"
    message(panel, "saved exports/")
    picture = panel.locator(".wb-image svg")
    assert picture.get_attribute("role") == "img"
    assert "columns are rounded" in picture.get_attribute("aria-label")
    assert first.count() == 1
    assert not visit.problems


def test_a_scrubber_moves_while_the_kernel_is_busy(notebook, record, tmp_path):
    visit = notebook("quantization/01-explore")
    page, panel = visit.page, visit.panel(0)
    page.wait_for_function("() => document.querySelector('.wb').panel.frames.frames.size >= 10")
    code = f"import os\nwhile not os.path.exists({str(tmp_path / 'end')!r}): pass"
    page.evaluate(
        """code => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code})
            && null""",
        code,
    )
    time.sleep(0.5)
    panel.locator(".wb-time input").focus()
    spent = []
    for column in ("0", "64", "128", "192"):
        start = time.monotonic()
        page.keyboard.press("Home" if column == "0" else "ArrowRight")
        panel.locator(f".wb-place:has-text('column {column} of 576')").wait_for()
        spent.append(round(time.monotonic() - start, 3))
    record("scrubber to picture, kernel busy, s", spent)
    assert "busy" in page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status")
    (tmp_path / "end").touch()
    assert not visit.problems


def test_a_page_without_a_server(window, tmp_path):
    out = tmp_path / "page.html"
    knobs = ["--set", "model=tiny-llama", "--set", "every=32"]
    subprocess.run(
        [sys.executable, "-m", "workbench", "page", "quantization/layer-trace", "--scale", "smoke", *knobs, "--out", str(out)],
        check=True,
    )
    page, problems = window(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    start = time.monotonic()
    page.goto(out.as_uri())
    page.locator(".wb svg").first.wait_for()
    print(f"page opens in {time.monotonic() - start:.2f} s, {out.stat().st_size / 1e6:.2f} MB")
    assert out.stat().st_size < 3_000_000
    page.locator(".wb-time input").focus()
    page.keyboard.press("Home")
    page.locator(".wb-place:has-text('column 0 of 128')").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator(".wb-story:has-text('32 of 128')").wait_for()
    assert not problems


def test_a_dashboard(window, tmp_path, record):
    """Prose and panels by Voila, warm before the first visitor comes; formulas without a network; no one without the token."""
    log = tmp_path / "log.txt"
    notebook = Path(__file__).parents[2] / "notebooks" / "quantization" / "01-explore.ipynb"
    command = [sys.executable, "-m", "workbench", "dashboard", str(notebook), "--no-browser"]
    with log.open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        end = time.monotonic() + 600
        while "is filled" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        (kernel,) = psutil.Process(server.pid).children()
        while kernel.cpu_percent(1.0) > 20:  # it runs the cells
            assert time.monotonic() < end
        url = re.search(r"http://127\S+", log.read_text()).group()
        page, outside = window(), []
        page.on("requestfinished", lambda r: None if "127.0.0.1" in r.url else outside.append(r.url))
        start = time.monotonic()
        page.goto(url)
        panel = page.locator(".wb").first
        panel.locator("svg").first.wait_for()
        record("dashboard to first panel, s", round(time.monotonic() - start, 2))  # 2 wanted
        page.locator("mjx-container").first.wait_for()
        panel.locator("button:has-text('Run')").click()
        message(panel, "done")
        assert page.locator(".jp-CodeMirrorEditor, .highlight").count() == 0, "code is in sight"
        assert [u for u in outside if u.startswith("http")] == []
        assert "/login" in window().goto(url.partition("?")[0]).url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(300)


def test_runs_are_browsed(notebook):
    visit = notebook("00-start")
    page = visit.page
    browser = page.locator(".wb-runs")
    browser.scroll_into_view_if_needed()
    browser.locator("select").first.select_option("quantization/layer-trace")
    browser.locator("text=against").wait_for()  # the runs of one experiment are there: their numbers can be compared
    browser.locator("tbody tr").first.wait_for()
    browser.locator("input[aria-label=filter]").fill("nothing-like-it")
    page.wait_for_function("() => !document.querySelectorAll('.wb-runs tbody tr').length")
    browser.locator("input[aria-label=filter]").fill("")
    browser.locator("tbody input[type=checkbox]").first.check()
    browser.locator("button:has-text('Open')").click()
    page.locator(".wb").nth(1).locator("svg").first.wait_for()
    browser.locator("button:has-text('Draw')").click()
    browser.locator(".wb-compared svg").wait_for()
    assert not visit.problems


def test_a_kernel_that_was_restarted_under_a_panel_is_said_and_run_again_from_cold(notebook, record):
    visit = notebook("quantization/01-explore")
    page, panel = visit.page, visit.panel(0)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(READY)
    panel.locator("button:has-text('Run')").click()
    message(panel, "kernel does not answer")

    # its first run: the model is not loaded, and no activations are kept of a sample of another length
    page.evaluate("""() => { const { content } = window.jupyterapp.shell.currentWidget;
        content.activeCellIndex = 1 + content.widgets.findIndex(c => c.model.sharedModel.source.includes('Panel.from_link'));
        window.jupyterapp.commands.execute('notebook:run-all-above') }""")
    panel.locator("text=kernel does not answer").wait_for(state="detached")
    panel = visit.panel(0)
    tokens = panel.locator("[data-knob=tokens]")
    tokens.locator("xpath=ancestor::details").evaluate("group => { group.open = true }")
    tokens.locator(".wb-number").fill("640")
    tokens.locator(".wb-number").press("Tab")
    record("Run to phase, and to first picture, cold, ms", panel.evaluate(RUN))
    message(panel, "done")
