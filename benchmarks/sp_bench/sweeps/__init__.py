"""Suites: many runs from one file, spread by a hydra launcher, each by itself."""
