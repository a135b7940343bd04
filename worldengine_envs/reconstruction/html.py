"""A page that needs nothing beside itself: tables, pictures and curves as HTML text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

QUALITY = 78  # of JPEGs
WIDEST_PX = 420  # of pictures
CURVE = (640, 180, 46, 22)  # width, height, margin to the left and below [px]
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1340px;margin:2em auto;padding:0 1em;color:#1b1f24;background:#fff}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:2em}
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:flex;flex-wrap:wrap;gap:8px;margin:.5em 0 1.2em}figure{margin:0;max-width:420px}
img{max-width:100%;min-width:240px;display:block;border-radius:3px}figcaption{font-size:.85em;color:#57606a}
.note{color:#57606a}.bad{color:#a40e26}svg text{font:11px system-ui,sans-serif;fill:#57606a}
@media(prefers-color-scheme:dark){body{background:#14171a;color:#e2e6ea}.bad{color:#ff8a80}
.note,figcaption,svg text{color:#9aa4ae;fill:#9aa4ae}}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Returns a whole HTML document."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    return f"{head}{viewport}<body>\n" + "\n".join(parts) + "\n</body></html>\n"


def heading(text: str, note: str = "", level: int = 2) -> str:
    """Returns a heading, and a sentence below it."""
    below = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h{level}>{html.escape(text)}</h{level}>{below}"


def table(rows: Iterable[Sequence], header: Sequence[str] = ()) -> str:
    """Returns a table; numbers stand to the right."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = [f"<tr>{head}</tr>"] if head else []
    for row in rows:
        cells = (_cell(value) for value in row)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(value) -> str:
    return f'<td class="n">{value:g}</td>' if isinstance(value, int | float) else f"<td>{html.escape(str(value))}</td>"


def bullets(lines: Iterable[str], style: str = "") -> str:
    """Returns a list."""
    return f'<ul class="{style}">' + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def pictures(images: Iterable[tuple[np.ndarray, str]]) -> str:
    """Returns a row of pictures (H, W, 3) uint8 with what is written below each."""
    figures = []
    for image, text in images:
        below = f"<figcaption>{html.escape(text)}</figcaption>"
        figures.append(f'<figure><img alt="" src="{_data(image)}">{below}</figure>')
    return f'<div class="row">{"".join(figures)}</div>'


def curve(x: Sequence[float], y: Sequence[float], x_name: str, y_name: str) -> str:
    """Returns a line chart (SVG) of y over x; needs two points."""
    if len(x) < 2:
        return ""
    width, height, left, below = CURVE
    x, y = np.asarray(x, float), np.asarray(y, float)
    low, high = y.min(), max(y.max(), y.min() + 1e-6)
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), 400)).round().astype(int))
    px = left + (width - left - 8) * (x - x[0]) / max(x[-1] - x[0], 1e-9)
    py = 8 + (height - below - 16) * (1.0 - (y - low) / (high - low))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px[keep], py[keep], strict=True))
    ends = f'<text x="2" y="{py.min() + 4:.0f}">{high:.4g}</text><text x="2" y="{py.max() + 4:.0f}">{low:.4g}</text>'
    names = f'<text x="{left}" y="{height - 4}">{html.escape(y_name)} over {html.escape(x_name)}, {x[0]:g} to {x[-1]:g}</text>'
    line = f'<polyline points="{points}" fill="none" stroke="#2f6fde" stroke-width="1.6"/>'
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{line}{ends}{names}</svg>'


def _data(image: np.ndarray) -> str:
    """Returns a picture as the address of a JPEG, made smaller where it is large."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.width > WIDEST_PX:
        picture = picture.resize((WIDEST_PX, max(round(picture.height * WIDEST_PX / picture.width), 1)), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
