"""Convert a figure to the bytes of a file, or to SVG markup for a page whose theme defines the colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from workbench import hover
from workbench.inks import SHADES, themed
from workbench.plotting import PIXELS, style

SHARP = 1.5  # PNG pixels per CSS pixel


def encode(figure: Figure, kind: str = "png") -> bytes:
    """Return a figure as a PNG, SVG or PDF file with a white background. It has no date, so equal figures give equal bytes."""
    if kind == "png":
        return _small(figure)
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with style():
        figure.savefig(buffer, format=kind, metadata=stamp, facecolor="white")
    return buffer.getvalue()


def _small(figure: Figure) -> bytes:
    """Return a PNG with 256 colours.

    Its size is a third of that of a PNG in full colour, which matters for transfers and for the notebooks in the repository.
    """
    return _palette(_pixels(figure))


def stacked(figures: Sequence[Figure]) -> bytes:
    """Return one PNG in which the figures are placed below one another."""
    drawn = [_pixels(figure) for figure in figures]
    whole = PIL.Image.new("RGB", (max(p.width for p in drawn), sum(p.height for p in drawn)), "white")
    for number, picture in enumerate(drawn):
        whole.paste(picture, (0, sum(p.height for p in drawn[:number])))
    return _palette(whole)


def _palette(picture: PIL.Image.Image) -> bytes:
    """Return the image as a PNG with 256 colours.

    The octree method chooses the colours. Median cut would drop rare colours, such as those of thin lines.
    """
    buffer = io.BytesIO()
    picture.quantize(256, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def _pixels(figure: Figure) -> PIL.Image.Image:
    canvas = FigureCanvasAgg(figure)
    with style():
        before = figure.get_dpi()
        figure.set_dpi(PIXELS * SHARP)
        canvas.draw()
        size = canvas.get_width_height()
        figure.set_dpi(before)
    picture = PIL.Image.frombuffer("RGBA", size, canvas.buffer_rgba())
    white = PIL.Image.new("RGBA", size, "white")
    return PIL.Image.alpha_composite(white, picture).convert("RGB")


def markup(figure: Figure) -> str:
    """Return the figure as an SVG element for a page, with the page's colours and font, and numbers with at most two decimals.

    The markup is safe to insert in a page, since Matplotlib's SVG writer escapes all text of the figure.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    themed_svg = _TAG.sub(_themed, _LEFT_OUT.sub("", svg[svg.index("<svg") :]))
    return themed_svg.replace("</svg>", f"{hover.element(figure)}\n</svg>")


def _themed(found: re.Match[str]) -> str:
    """Return a tag with the page's colours and font, and shortened numbers. Only tags are changed, not the text between them."""
    tag = found.group()
    if '="' not in tag:
        return tag
    if "." in tag:
        tag = _NUMBERS.sub(lambda numbers: _DIGITS.sub(r"\1", numbers.group()), tag)
    if "#" in tag:
        tag = _COLOUR.sub(lambda colour: themed(colour.group()), tag)
    return _FONT.sub(r"\1var(--jp-ui-font-family,sans-serif)", tag) if "DejaVu" in tag else tag


_TAG = re.compile(r"<[^>]*>")
_LEFT_OUT = re.compile(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", re.S)
_NUMBERS = re.compile(r' (?:d|x|y|transform|width|height)="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
_COLOUR = re.compile("|".join(SHADES))
_FONT = re.compile(r"(font: [^;\"]*?|font-family: )'?DejaVu Sans[^;\"]*")
