"""What a comparison found: its table, its page, and images of what SP asks."""

from sp_bench.report.html_report import write_report
from sp_bench.report.prediction_figure import PairExamples, draw_examples
from sp_bench.report.table import markdown_table, print_table

__all__ = ["PairExamples", "draw_examples", "markdown_table", "print_table", "write_report"]
