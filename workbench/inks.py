"""The colours of all pictures, in both themes: one a method, told apart by the colour-blind, readable as lines and as text."""

from __future__ import annotations

# Okabe and Ito's colours, told apart by the colour-blind; orange, sky and red darker, so that lines have a contrast of 3:1 on
# white. The same method has the same colour in all notebooks.
ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = ("#c98500", "#3f9ccf", "#009e73", "#0072b2", "#ad4600", "#cc79a7", "#767676")
INK, FAINT, HAIR = ("#212122", "#616163", "#dcdcdd")  # of text; of axes and what stands back; of what is hardly there
# the same colours for text (4.5:1), then lines and text in the dark theme
TEXT = {ORANGE: "#a06300", SKY: "#1a77a4", GREEN: "#00805a", BLUE: "#0071b1", RED: "#ad4700", PINK: "#a55883", GREY: "#737373"}
DARK = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#009e73", BLUE: "#2a85c9", RED: "#e0670b", PINK: "#cc79a7", GREY: "#a8a8a8",
    INK: "#dedede", FAINT: "#9e9e9e", HAIR: "#424242",
}  # fmt: skip
DARK_TEXT = {
    ORANGE: "#e69f00", SKY: "#56b4e9", GREEN: "#0fa97d", BLUE: "#4b9fdc", RED: "#ec7420", PINK: "#d486b1", GREY: "#b0b0b0",
}  # fmt: skip


def text(colour: str) -> str:
    """The shade of a line's colour that is readable as text."""
    return TEXT.get(colour, colour)


def theme() -> str:
    """The inks as CSS variables, for the light theme and for JupyterLab's dark one."""
    names = {colour: variable(colour) for colour in SHADES}
    dark = {**DARK, **{TEXT[colour]: shade for colour, shade in DARK_TEXT.items()}}
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    night = "".join(f"{names[colour]}:{shade};" for colour, shade in dark.items())
    return f":root{{{light}}}\n[data-jp-theme-light='false']{{{night}}}\n"


SHADES = (ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY, INK, FAINT, HAIR, *TEXT.values())


def variable(colour: str) -> str:
    """The CSS variable that a page has for a colour."""
    return f"--wb-{colour[1:]}"


def themed(colour: str) -> str:
    """A colour as CSS: the theme's shade of it on a page that has the theme, else itself."""
    return f"var({variable(colour)},{colour})"
