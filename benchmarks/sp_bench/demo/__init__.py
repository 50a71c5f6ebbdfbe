"""The demo world: scenes with part masks and depth, and cue conflicts, drawn by the program."""
