"""``sp-bench suite``: all runs of a sweep, started by a hydra launcher as separate jobs."""
