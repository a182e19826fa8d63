"""A person opens a notebook in JupyterLab, runs it, moves a slider, watches a run and stops it."""

import time

READY = """() => { const k = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
    return k && k.connectionStatus === 'connected' && k.status === 'idle' }"""
DONE = """() => { const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.innerText);
    return window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'
        && prompts.length && !prompts.some(t => t.includes('*')) }"""
OURS = ("workbench", "ipywidgets", "jupyter-widgets", "Uncaught", "TypeError", "ReferenceError")


class Clock:
    def __init__(self, record):
        self.start, self.record = time.monotonic(), record

    def lap(self, name):
        now = time.monotonic()
        self.record(name, round(now - self.start, 2))
        print(f"{name}: {now - self.start:.2f} s")
        self.start = now


def open_and_run(page, lab, path, clock):
    page.goto(lab.url(f"lab/tree/{path}"))
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)
    clock.lap("open the notebook")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    time.sleep(1)
    page.wait_for_function(DONE)
    clock.lap("run all cells")


def panel_of(page, button, which):
    return page.locator(
        ".jp-OutputArea-output .widget-vbox", has=page.locator(f"button[title='{button}']")
    ).nth(which)


def readout(panel, knob):
    return panel.locator(f".widget-slider:has(label:text-is('{knob}')) .widget-readout").first


def test_explore_live_run_stop(page, lab, record_property):
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda m: problems.append(m.text) if m.type == "error" and any(w in m.text for w in OURS) else None,
    )
    clock = Clock(record_property)
    open_and_run(page, lab, "notebooks/quantization/01-explore.ipynb", clock)

    run = page.locator("button.jupyter-button[title='Run']").first
    run.scroll_into_view_if_needed()
    picture = page.locator("img.widget-image").first
    before = picture.get_attribute("src")

    slider = page.locator(".widget-slider:has(label:text-is('every (columns)'))").first
    slider.locator(".noUi-handle").focus()
    value = slider.locator(".widget-readout").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([e, was]) => e.innerText !== was", arg=[slider.locator(".widget-readout").element_handle(), value]
    )
    clock.lap("move a slider")
    slider.locator(".widget-readout").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    page.keyboard.press("Enter")

    run.click()
    page.locator(".widget-label:has-text('running')").first.wait_for()
    clock.lap("Run is taken up")
    seen, end = {before}, time.monotonic() + 120
    while len(seen) < 4 and time.monotonic() < end:
        seen.add(picture.get_attribute("src"))
        time.sleep(0.1)
    assert len(seen) >= 4, f"the picture changed {len(seen) - 1} times in two minutes"
    clock.lap("three live pictures")

    page.locator("button.jupyter-button[title='Stop']").first.click()
    message = page.locator(".widget-label:has-text('stopped after')").first
    message.wait_for()
    clock.lap("Stop")
    done, total = (int(word) for word in message.inner_text().split() if word.isdigit())
    assert done < total
    assert not problems


def test_an_instant_panel_follows_the_slider(page, lab, record_property):
    clock = Clock(record_property)
    open_and_run(page, lab, "notebooks/quantization/02-inside.ipynb", clock)
    slider = page.locator(".widget-slider:has(label:text-is('correlation'))").first
    slider.scroll_into_view_if_needed()
    panel = page.locator(".jp-OutputArea-output .widget-vbox").filter(has=slider).last
    picture = page.locator("img.widget-image").nth(1)
    before = picture.get_attribute("src")
    slider.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("([e, was]) => e.src !== was", arg=[picture.element_handle(), before])
    clock.lap("a slider's move redraws")
    assert panel.count() == 1
