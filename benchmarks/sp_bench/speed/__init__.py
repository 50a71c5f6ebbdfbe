"""``sp-bench speed``: what SP costs, beside what it must cost and beside its peers.

A part is a module with ``jobs(settings)``, one measurement by name, whose results are plain values
for ``speed.json``; `sp_bench.speed.tables` makes tables and goals of them.
"""
