"""The figure of docs/bases.md: what DiT and DiffuSSM cost by the length of the sequence, counted and by the clock.

    backbones_bench | python bench/worker/backbones_figure.py docs/pictures/backbones.svg
"""

import math
import re
import sys

# A hue for each family, darker with less compression; told apart by their marks and names too.
STYLES = {
    "DiT, P = 1": ("#1b4f8a", "4,0", "square"),
    "DiT, P = 2": ("#6ea8e0", "4,0", "square"),
    "DiffuSSM, M = 1": ("#8a3b12", "6,3", "circle"),
    "DiffuSSM, M = 2": ("#c9702f", "6,3", "circle"),
    "DiffuSSM, M = 4": ("#e8b184", "6,3", "circle"),
}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 240, 64, 34, 46, 78


def read(lines):
    """name -> [(places, multiply-adds / 1e9, milliseconds)]"""
    found = {}
    for line in lines:
        row = re.match(r"(\S.*?)\s+(\d+) places\s+([\d.]+) ms\s+([\d.]+) G multiply-adds", line)
        if row:
            found.setdefault(row[1], []).append((int(row[2]), float(row[4]), float(row[3])))
    if set(found) != set(STYLES):
        raise SystemExit(f"expected the lines of backbones_bench for {', '.join(STYLES)}; found {', '.join(found) or 'none'}")
    return found


def panel(rows, column, title, x0):
    values = [row[column] for lines in rows.values() for row in lines]
    places = sorted({row[0] for lines in rows.values() for row in lines})
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = lambda n: x0 + 20 + (WIDTH - 40) * (math.log(n / places[0]) / math.log(places[-1] / places[0]))
    y = lambda v: TOP + HEIGHT * (high - math.log10(v)) / (high - low)
    yield f'<text x="{x0}" y="{TOP - 14}" class="title">{title}</text>'
    for power in range(low, high + 1):
        yield f'<path d="M{x0} {y(10**power):.1f}h{WIDTH}" class="grid"/>'
        yield f'<text x="{x0 - 8}" y="{y(10**power) + 4:.1f}" text-anchor="end">{10**power:g}</text>'
    for n in places:
        yield f'<path d="M{x(n):.1f} {TOP}v{HEIGHT}" class="grid"/>'
        yield f'<text x="{x(n):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{n:,}</text>'
    yield f'<text x="{x0 + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">places of the latents</text>'
    for name, lines in rows.items():
        colour, dashes, mark = STYLES[name]
        points = " ".join(f"{x(row[0]):.1f},{y(row[column]):.1f}" for row in lines)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        yield from (marked(mark, x(row[0]), y(row[column]), colour) for row in lines)


def marked(mark, x, y, colour):
    if mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'


def main():
    rows = read(sys.stdin)
    second = LEFT + WIDTH + GAP
    width, height = second + WIDTH + 175, TOP + HEIGHT + BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           "<title>Cost of DiT and DiffuSSM by the length of the sequence</title>",
           '<style>text{fill:#222}.title{font-weight:bold}.grid{stroke:#ddd}</style>', '<rect width="100%" height="100%" fill="#fff"/>']
    out += panel(rows, 1, "Counted, 10⁹ multiply-adds", LEFT)
    out += panel(rows, 2, "By the clock, ms of one core", second)
    for place, (name, (colour, dashes, mark)) in enumerate(STYLES.items()):
        x, y = second + WIDTH + 20, TOP + 14 + 22 * place
        out += [f'<path d="M{x} {y}h28" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>', marked(mark, x + 14, y, colour),
                f'<text x="{x + 36}" y="{y + 4}">{name}</text>']
    with open(sys.argv[1], "w") as file:
        file.write("\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main()
