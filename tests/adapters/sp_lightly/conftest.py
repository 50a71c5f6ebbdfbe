"""What lightly's tests share."""

collect_ignore = ["run_example.py"]  # a script, for a process of its own
