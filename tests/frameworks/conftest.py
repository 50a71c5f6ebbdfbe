"""Helpers of this folder import frameworks that are not there by default."""

collect_ignore = ["framework_contract.py", "spt_methods.py"]
