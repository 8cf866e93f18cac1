"""Tables of strings: Markdown, CSV, LaTeX. Taught in notebooks/10_evaluation.ipynb."""

import csv
import io


def markdown_table(header, rows):
    """A Markdown table of strings; the first column to the left, the others to the right."""
    lines = [header, [":--"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def csv_table(header, rows):
    """The same table as comma-separated values, one line end a row; "–" becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(
        [["" if cell == "–" else cell for cell in map(str, row)] for row in (header, *rows)]
    )
    return text.getvalue()


LATEX_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def latex_table(header, rows):
    """The same table as a LaTeX tabular with the rules of the booktabs package."""

    def escape(cell):
        cell = "".join(
            LATEX_ESCAPES.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign)
            for sign in str(cell)
        )
        return cell.replace("–", "--").replace("±", r"$\pm$").replace("×", r"$\times$")

    lines = [" & ".join(map(escape, row)) + r" \\" for row in (header, *rows)]
    return (
        "\n".join(
            [
                rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
        + "\n"
    )
