"""The colours of all figures, for the light and the dark theme. A method has the same colour in all notebooks."""

from __future__ import annotations

# The palette of Okabe and Ito, whose colours colour-blind readers can distinguish. Orange, sky and red are darker than in the
# original palette, so that lines have a contrast of at least 3:1 on white.
ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = ("#c98500", "#3f9ccf", "#009e73", "#0072b2", "#ad4600", "#cc79a7", "#767676")
INK, FAINT, HAIR = ("#212122", "#616163", "#dcdcdd")  # text; axes and secondary text; grid lines
PAPER = "#fefefe"  # background of the page; it is also drawn behind text that crosses a line
# TEXT: shades for text, with a contrast of at least 4.5:1. DARK and DARK_TEXT: lines and text in the dark theme.
TEXT = {ORANGE: "#a06300", SKY: "#1a77a4", GREEN: "#00805a", BLUE: "#0071b1", RED: "#ad4700", PINK: "#a55883", GREY: "#737373"}
DARK = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#009e73", BLUE: "#2a85c9", RED: "#e0670b", PINK: "#cc79a7", GREY: "#a8a8a8",
    INK: "#dedede", FAINT: "#9e9e9e", HAIR: "#424242", PAPER: "#111111",
}  # fmt: skip
DARK_TEXT = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#0fa97d", BLUE: "#4b9fdc", RED: "#ec7420", PINK: "#d486b1", GREY: "#b0b0b0",
}  # fmt: skip


def text(colour: str) -> str:
    """Return the shade of a line's colour that has enough contrast for text."""
    return TEXT.get(colour, colour)


def theme() -> str:
    """Return CSS that defines the colours as variables, for JupyterLab's light theme and for its dark theme."""
    names = {colour: variable(colour) for colour in SHADES}
    dark = {**DARK, **{TEXT[colour]: shade for colour, shade in DARK_TEXT.items()}}
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    night = "".join(f"{names[colour]}:{shade};" for colour, shade in dark.items())
    return f":root{{{light}}}\n[data-jp-theme-light='false']{{{night}}}\n"


SHADES = (ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY, INK, FAINT, HAIR, PAPER, *TEXT.values())


def variable(colour: str) -> str:
    """Return the name of the CSS variable of a colour."""
    return f"--wb-{colour[1:]}"


def themed(colour: str) -> str:
    """Return CSS for a colour: the variable of the colour, with the colour itself as the fallback on pages without variables."""
    return f"var({variable(colour)},{colour})"
