"""sp-bench: measures what Spatial Prediction changes, and what it costs."""
