"""The pages that are published, made of the JSON that suites left in ``benchmarks/results``."""
