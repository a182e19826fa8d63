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

    page.locator(".lm-TabBar-tab:has-text('text')").first.click()
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


def turn(page, label, which=0, key="ArrowRight"):
    """Move the slider of a knob by one notch."""
    slider = page.locator(f".widget-slider:has(label:text-is('{label}'))").nth(which)
    slider.scroll_into_view_if_needed()
    slider.locator(".noUi-handle").focus()
    page.keyboard.press(key)


def changed(page, picture, was):
    page.wait_for_function("([e, was]) => e.src !== was", arg=[picture.element_handle(), was])


def test_a_device_is_designed_and_trained(page, lab, record_property):
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    clock = Clock(record_property)
    open_and_run(page, lab, "notebooks/synapse/01-explore.ipynb", clock)
    device, training, currents = (page.locator("img.widget-image").nth(k) for k in range(3))

    # a browser must not move a knob by itself: no panel says that one changed
    assert page.locator(".widget-label:has-text('rate=')").count() == 0
    assert page.locator(".widget-label:has-text('on_off=')").count() == 0
    turn(page, "nonlinearity_down")  # the first move of a widget waits for its first message
    before = device.get_attribute("src")
    time.sleep(1)
    before = device.get_attribute("src")
    clock.lap("first move")
    turn(page, "nonlinearity_down")
    changed(page, device, before)
    clock.lap("the device curve follows the slider")

    page.locator(".lm-TabBar-tab:has-text('network')").first.click()
    turn(page, "samples", 0, "End")  # long enough to watch and stop
    run = page.locator("button.jupyter-button[title='Run']").first
    before = training.get_attribute("src")
    run.click()
    page.locator(".widget-label:has-text('running')").first.wait_for()
    clock.lap("Run is taken up")
    for _ in range(3):
        changed(page, training, before)
        before = training.get_attribute("src")
    clock.lap("three live pictures")
    page.locator("button.jupyter-button[title='Stop']").first.click()
    page.locator(".widget-label:has-text('stopped after')").first.wait_for()
    clock.lap("Stop")

    page.locator(".lm-TabBar-tab:has-text('digit')").first.click()
    before = currents.get_attribute("src")
    turn(page, "digit")
    changed(page, currents, before)
    clock.lap("another digit's currents")
    assert not problems
