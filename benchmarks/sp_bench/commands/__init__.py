"""The commands, a file for each.

What a command needs beyond its options is imported when it runs.
"""
