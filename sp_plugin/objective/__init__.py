"""Objective: targets, pairs, the head, and the loss between prediction and target."""
