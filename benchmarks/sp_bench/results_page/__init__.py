"""``sp-bench results``: docs/results.md and the README's table from the JSON of suites."""
