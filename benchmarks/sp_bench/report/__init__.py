"""Reports of comparisons and evaluations: tables, figures, HTML pages."""
