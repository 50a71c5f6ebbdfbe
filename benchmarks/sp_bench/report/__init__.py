"""What a comparison found: its table, its page, and pictures of what SP asks."""

from sp_bench.report.examples import PairExamples, draw_examples
from sp_bench.report.pages import write_report
from sp_bench.report.table import markdown_table, print_table

__all__ = ["PairExamples", "draw_examples", "markdown_table", "print_table", "write_report"]
