"""Views: where the method's own views lie and what it encodes, for ``source="host_views"``."""
