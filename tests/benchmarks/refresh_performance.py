"""Put measured figures into docs/performance.md.

Run ``python tests/benchmarks/refresh_performance.py [--figures OUT.json] [--keep OUT.json]``.
Without ``--figures`` it first runs ``usidstreamd bench --compare --json``, which takes some minutes
on a machine that should do nothing else meanwhile.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from usidstreamd.bench import report as tables

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MB = 1e6


def markdown(rows):
    """Return a table's lines."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def in_markdown(report):
    """Return the lines that stand between the marks."""
    machine, limits, options = report["machine"], report["limits"], report["options"]
    lines = [
        "",
        f"usidstream {machine['usidstream']}, Python {machine['python']}, numpy {machine['numpy']},"
        f" h5py {machine['h5py']}, HDF5 {machine['hdf5']}; {machine['processor']},"
        f" {machine['cores']} cores. Disk: {limits['disk_bytes_per_s'] / MB:.0f} MB/s, a sync takes"
        f" {limits['sync']['p50_s'] * 1e3:.1f} ms (99 %: {limits['sync']['p99_s'] * 1e3:.1f} ms)."
        f" Memory copies at {limits['memory_bytes_per_s'] / MB:.0f} MB/s."
        f" Medians of {options['rounds']} rounds, sizes x {options['scale']:g}.",
    ]
    for title, rows in (
        ("Rates", tables.rate_table(report)),
        ("CPU by stage", tables.cpu_table(report)),
        ("Targets", tables.target_table(report)),
    ):
        lines += ["", f"**{title}**", "", *markdown(rows)]
    lines += ["", *(f"- {line}" for line in tables.sentences(report)), ""]
    return lines


def put_between_marks(text, lines):
    """Return a document with other lines between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the document needs the marks {BEGIN} and {END}")
    return before + begin + "\n".join(["", *lines]) + end + after


def main():
    """Measure, or take figures that were measured, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, help="measured before, by bench --compare --json")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--keep", type=Path, help="where to keep what is measured now")
    options = parser.parse_args()
    if options.figures:
        told = options.figures.read_text("utf-8")
    else:
        bench = [Path(sys.executable).parent / "usidstreamd", "bench", "--compare", "--json"]
        told = subprocess.run(bench, check=True, stdout=subprocess.PIPE, text=True).stdout
        if options.keep:
            options.keep.write_text(told, "utf-8")
    document = options.document.read_text("utf-8")
    new = put_between_marks(document, in_markdown(json.loads(told)))
    options.document.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
