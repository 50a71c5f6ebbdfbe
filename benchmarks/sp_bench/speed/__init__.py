"""``sp-bench speed``: the cost of SP, next to its lower bound and to the cost of peers.

Each part of the measurement is a module with a function from settings to measurements by name,
whose results are plain values for ``speed.json``; `sp_bench.speed.tables` makes tables and goals
of them.
"""
