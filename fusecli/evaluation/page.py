"""The report of `eval` as one HTML file: pictures are inside it, and it needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fusecli.evaluation import tables, targets
from fusecli.evaluation.plots import DPI, Region, Shot, colour, crop
from fusecli.evaluation.tables import Board
from fusecli.evaluation.targets import Row
from fusecli.text import visible

ROWS = 600  # of the table of single images; per_image.csv has all
FEW = 40  # pictures that are shown large when opened

HEADINGS = {
    "box": "Spread over the images",
    "curves": "Cumulative curves",
    "bars": "Ranks",
    "radar": "Overview",
    "zoom": "Magnified region",
    "contact": "Contact sheet",
}
NOTES = {
    "box": "Quartiles and median; every dot is an image.",
    "curves": "Share of the images with at most a value.",
    "bars": "By means over the images; equal means share a rank.",
    "radar": "The best mean of each metric lies on the rim, the worst near the centre.",
}


@dataclass(frozen=True)
class Page:
    """What the report says.

    Args:
        title: Heading.
        facts: Name to value, shown as a line at the top.
        board: The scores.
        conversion: What was done to each image before it was measured.
        shots: Pictures for the contact sheet.
        region: What they magnify.
        figures: Kind of plot to PNG.
        failures: Key to reason.
        targets: Labelled targets, one row per method and target.
        worst: The targets shown worst, enlarged.
        checks: Sentences about `--fail-under`, each with whether it held.
        command: The command line.
    """

    title: str
    facts: Mapping[str, str]
    board: Board
    conversion: Mapping[str, str]
    shots: Sequence[Shot] = ()
    region: Region | None = None
    figures: Mapping[str, bytes] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[tuple[str, bool]] = ()
    targets: Sequence[Row] = ()
    worst: Sequence[Shot] = ()
    command: str = ""


def escape(text: str) -> str:
    """Return text as HTML that shows just this text."""
    return html.escape(visible(text))


def render(page: Page) -> str:
    """Return the page as HTML."""
    sections = [
        _section("Results", _results(page)),
        *(
            _section(HEADINGS[kind], _figure(png, HEADINGS[kind]), NOTES.get(kind, ""))
            for kind, png in page.figures.items()
            if kind not in ("contact", "zoom")
        ),
    ]
    if "box" not in page.figures and len(page.board.keys) > 1:
        sections.insert(
            1, _section(HEADINGS["box"], _strips(page.board), "Dots are images, bars are medians.")
        )
    if page.shots:
        sheet = _contact(page.shots, page.region)
        sections.append(_section(HEADINGS["contact"], sheet, _contact_note(page)))
    if page.worst:
        note = f"The {len(page.worst)} of which a method keeps least of the infrared contrast."
        sections.append(_section("Worst targets", _contact(page.worst, None), note))
    if page.targets:
        sections.append(_section("Targets", targets.html(page.targets, ROWS)))
    sections += [
        _section("Single images", _images(page.board)),
        _section("How the numbers were made", _method(page)),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(page.title)}</h1>{_facts(page.facts)}</header>\n"
        f"<main>\n{''.join(sections)}</main>\n"
        f'<dialog id="view"><img alt=""><p></p></dialog>\n<script>{SCRIPT}</script>\n'
        f"</body>\n</html>\n"
    )


def _section(heading: str, body: str, note: str = "") -> str:
    small = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{small}{body}</section>\n"


def _facts(facts: Mapping[str, str]) -> str:
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return f"<dl>{items}</dl>"


def _results(page: Page) -> str:
    parts = [f'<div class="wide">{tables.html(page.board)}</div>']
    legend = f"{page.board.basis.capitalize()}."
    if len(page.board.methods) > 1:
        legend += ' <span class="best">Best</span>'
        legend += ' <span class="second">second best</span>' if len(page.board.methods) > 2 else ""
    parts.append(f'<p class="note">{legend}</p>')
    broken = [sentence for sentence, held in page.checks if not held]
    parts += [f'<p class="check broken">✗ {escape(sentence)}</p>' for sentence in broken]
    if held := len(page.checks) - len(broken):
        all_held = f"all {held} checks hold" if not broken else f"the other {held} checks hold"
        parts.append(f'<p class="check">✓ {all_held}</p>')
    if page.failures:
        rows = "".join(
            f"<li><code>{escape(key)}</code> {escape(reason)}</li>"
            for key, reason in page.failures.items()
        )
        parts.append(
            f'<div class="failures"><strong>{len(page.failures)} images could not be scored'
            f"</strong><ul>{rows}</ul></div>"
        )
    return "\n".join(parts)


def _data(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _figure(png: bytes, name: str) -> str:
    width = int.from_bytes(png[16:20], "big") * 96 // DPI  # inches, as the browser counts them
    return (
        f'<figure><img src="{_data("png", png)}" alt="{escape(name)}" width="{width}"></figure>\n'
    )


# ---- spread, drawn here: a report without plots needs no matplotlib


def _strips(board: Board) -> str:
    cards = []
    for column, spec in enumerate(board.specs):
        values = board.values[:, :, column]
        finite = values[np.isfinite(values)]
        if not finite.size:
            continue
        low, high = float(finite.min()), float(finite.max())
        span = (high - low) or 1.0
        lanes = []
        for row in range(len(board.methods)):
            y = 10 + 16 * row
            own = values[np.isfinite(values[:, row]), row]
            dots = "".join(
                f'<circle cx="{6 + 248 * (value - low) / span:.1f}" cy="{y}" r="2.6"/>'
                for value in own[:400]
            )
            middle = board.medians[row, column]
            bar = (
                f'<rect x="{5 + 248 * (middle - low) / span:.1f}" y="{y - 6}" width="2.4" '
                f'height="12"/>'
                if np.isfinite(middle)
                else ""
            )
            lanes.append(f'<g fill="{colour(row)}"><g opacity=".45">{dots}</g>{bar}</g>')
        height = 16 * len(board.methods) + 4
        places = board.decimals(column)
        cards.append(
            f'<div class="card"><h3>{escape(spec.label)} {spec.arrow}'
            f"<code>{escape(spec.key)}</code></h3>"
            f'<svg viewBox="0 0 260 {height}" role="img" aria-label="{escape(spec.key)}">'
            f"{''.join(lanes)}</svg>"
            f"<p><span>{low:.{places}f}</span><span>{high:.{places}f}</span></p></div>"
        )
    legend = "".join(
        f'<span><i style="background:{colour(row)}"></i>{escape(method)}</span>'
        for row, method in enumerate(board.methods)
    )
    return f'<p class="legend">{legend}</p><div class="cards">{"".join(cards)}</div>\n'


# ---- pictures


def _contact_note(page: Page) -> str:
    count, total = len(page.shots), len(page.board.keys)
    some = f"{count} of {total} images, evenly spread" if count < total else f"All {count} images"
    return f"{some}. Select one to enlarge it."


def _contact(shots: Sequence[Shot], region: Region | None) -> str:
    few = len(shots) * len(shots[0].titles) <= FEW
    rows = []
    for shot in shots:
        cells = "".join(
            _picture(title, picture, shot.key, region, 720 if few else 360)
            for title, picture in zip(shot.titles, shot.pictures, strict=True)
        )
        rows.append(
            f'<h3 class="key">{escape(shot.key)}</h3>'
            f'<div class="shots" style="--n:{len(shot.titles)}">{cells}</div>'
        )
    return "\n".join(rows)


def _picture(title: str, picture: np.ndarray, key: str, region: Region | None, side: int) -> str:
    shown = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    closer = ""
    if region is not None:
        detail = _jpeg(crop(shown, region), side)
        closer = f'<img src="{detail}" alt="{escape(title)}, magnified" class="detail">'
        shown = _framed(shown, region)
    caption = f"{key} · {title}"
    return (
        f'<figure><img src="{_jpeg(shown, side)}" alt="{escape(caption)}" tabindex="0">{closer}'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _framed(picture: np.ndarray, region: Region) -> np.ndarray:
    left, top, width, height = region
    line = max(1, picture.shape[1] // 300)
    inside = picture[top + line : top + height - line, left + line : left + width - line].copy()
    framed = picture.copy()
    framed[top : top + height, left : left + width] = (255, 212, 0)
    framed[top + line :, left + line :][: inside.shape[0], : inside.shape[1]] = inside
    return framed


def _jpeg(picture: np.ndarray, side: int) -> str:
    import cv2

    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return _data("jpeg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 86])[1].tobytes())


# ---- numbers


def _images(board: Board) -> str:
    heads = "".join(f"<th><code>{escape(spec.key)}</code></th>" for spec in board.specs)
    rows: list[str] = []
    for image, key in enumerate(board.keys):
        for row, method in enumerate(board.methods):
            if len(rows) == ROWS:
                break
            cells = "".join(
                f"<td>{value:.{board.decimals(column)}f}</td>"
                if np.isfinite(value)
                else "<td></td>"
                for column, value in enumerate(board.values[image, row])
            )
            rows.append(f"<tr><th>{escape(key)}</th><th>{escape(method)}</th>{cells}</tr>")
    total = len(board.keys) * len(board.methods)
    more = f"The first {ROWS} of {total} rows; " if total > ROWS else ""
    return (
        f"<details><summary>{total} rows; select a heading to sort</summary>"
        f'<p class="note">{more}per_image.csv has all at full precision.</p><div class="wide">'
        f'<table class="sortable"><thead><tr><th>image</th><th>method</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>\n"
    )


def _method(page: Page) -> str:
    definitions = "".join(
        f"<tr><th><code>{escape(spec.key)}</code></th><td>{spec.arrow}</td>"
        f"<td>{escape(spec.about)}</td><td>{escape(spec.source)}</td><td>{spec.version}</td></tr>"
        for spec in page.board.specs
    )
    conversion = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in page.conversion.items()
    )
    command = f"<pre>{escape(page.command)}</pre>" if page.command else ""
    return (
        f'<dl class="conversion">{conversion}</dl>\n<div class="wide"><table class="definitions">'
        f"<thead><tr><th>metric</th><th></th><th>definition</th><th>source</th><th>version</th>"
        f"</tr></thead><tbody>{definitions}</tbody></table></div>\n"
        f"{command}\n"
    )


STYLE = """
:root{--ink:#1c2330;--soft:#5b6575;--line:#e3e7ee;--paper:#fff;--tint:#f5f7fa;--best:#0a6b4f;
--mark:#e2f4ec;--accent:#0077bb}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa5b5;--line:#2d3542;--paper:#151a22;
--tint:#1c232d;--best:#7fe0bb;--mark:#17382d;--accent:#6cb8ea}
figure img[src^="data:image/png"]{border-radius:6px}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
header{padding:2.2rem max(1.5rem,calc(50vw - 620px)) 1.4rem;border-bottom:1px solid var(--line);
background:var(--tint)}
h1{margin:0 0 .8rem;font-size:1.7rem;letter-spacing:-.01em}
h2{margin:0 0 .3rem;font-size:1.2rem}
h3{margin:0;font-size:.92rem}
dl{display:flex;flex-wrap:wrap;gap:.6rem 2.2rem;margin:0}
dt{color:var(--soft);font-size:.74rem;text-transform:uppercase;letter-spacing:.05em}
dd{margin:0;font-weight:600}
main{max-width:1288px;margin:0 auto;padding:0 1.5rem 3rem}
section{padding:1.8rem 0 0}
code{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;font-size:.8em;
color:var(--soft);font-weight:400}
.note{color:var(--soft);font-size:.88rem;margin:.1rem 0 .7rem}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:8px;margin:.6rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.42rem .75rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{font-size:.85rem;background:var(--tint);vertical-align:top}
.scores thead code{display:inline-block;max-width:7.5em;white-space:normal;line-height:1.2;
overflow-wrap:anywhere}
tbody th,thead th:first-child{text-align:left}
tbody th:first-child,thead th:first-child{position:sticky;left:0;background:var(--paper);z-index:1}
thead th:first-child{background:var(--tint)}
tbody tr:hover>*{background:var(--tint)}
.best{font-weight:700;color:var(--best);background:var(--mark)}
span.best{padding:.05rem .35rem;border-radius:4px}
.second{text-decoration:underline;text-underline-offset:3px}
.rank{border-left:1px solid var(--line)}
.definitions td,.definitions th{text-align:left;white-space:normal;font-weight:400;font-size:.88rem}
.definitions td:nth-child(3){min-width:18rem}
.conversion{display:block;margin:.4rem 0 .9rem}
.conversion div{display:flex;gap:1rem;padding:.15rem 0}
.conversion dt{width:6rem;flex:none;padding-top:.15rem}
.conversion dd{font-weight:400}
.check{margin:.3rem 0;padding:.4rem .8rem;border-radius:6px;background:var(--mark);
color:var(--best)}
.broken{background:#fbe6e3;color:#a3200d}
.failures{padding:.7rem 1rem;border-radius:8px;background:#fdf3dc;color:#5f4300;margin:.8rem 0}
.failures code{color:inherit}.failures ul{margin:.3rem 0 0;padding-left:1.2rem}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.3rem 0 .8rem;font-size:.9rem}
.legend i{display:inline-block;width:.75rem;height:.75rem;border-radius:50%;margin-right:.4rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(255px,1fr));gap:.9rem}
.card{border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem .5rem}
.card h3{display:flex;justify-content:space-between;align-items:baseline;margin-bottom:.3rem}
.card p{display:flex;justify-content:space-between;margin:0;font-size:.76rem;color:var(--soft);
font-variant-numeric:tabular-nums}
.card svg{display:block;width:100%}
.key{margin:1.1rem 0 .4rem;color:var(--soft);font-weight:600}
.shots{display:grid;grid-template-columns:repeat(var(--n),minmax(7.5rem,1fr));gap:.6rem;
overflow-x:auto}
figure{margin:0}
figure>img{display:block;max-width:100%;height:auto}
.shots img{width:100%;border-radius:5px;cursor:zoom-in}
.shots .detail{margin-top:.35rem;image-rendering:pixelated}
figcaption{font-size:.82rem;color:var(--soft);padding-top:.2rem;text-align:center}
details summary{cursor:pointer;color:var(--accent)}
.sortable thead th{cursor:pointer}
pre{background:var(--tint);border:1px solid var(--line);border-radius:8px;padding:.7rem 1rem;
overflow-x:auto;font-size:.84rem}
dialog{border:0;padding:0;background:none;max-width:96vw;max-height:96vh;cursor:zoom-out}
dialog::backdrop{background:rgba(10,14,20,.86)}
dialog img{display:block;max-width:96vw;max-height:90vh;min-width:min(90vw,900px);
image-rendering:auto;object-fit:contain}
dialog p{color:#fff;text-align:center;margin:.4rem 0 0}
@media print{dialog{display:none}.wide{overflow:visible}}
"""

SCRIPT = """
const view=document.getElementById("view");
document.querySelectorAll(".shots img").forEach(img=>{
  const open=()=>{view.querySelector("img").src=img.src;
    view.querySelector("p").textContent=img.alt;view.showModal()};
  img.addEventListener("click",open);
  img.addEventListener("keydown",e=>{if(e.key==="Enter")open()});
});
view.addEventListener("click",()=>view.close());
document.querySelectorAll(".sortable th").forEach(th=>{
  if(!th.closest("thead"))return;
  th.addEventListener("click",()=>{
    const body=th.closest("table").tBodies[0],i=th.cellIndex;
    const up=th.dataset.up!=="1";th.dataset.up=up?"1":"0";
    const value=row=>{const t=row.cells[i].textContent,n=parseFloat(t);
      return i>1?(isNaN(n)?Infinity:n):t};
    [...body.rows].sort((a,b)=>{const x=value(a),y=value(b);
      return (x<y?-1:x>y?1:0)*(up?1:-1)}).forEach(row=>body.append(row));
  });
});
"""
