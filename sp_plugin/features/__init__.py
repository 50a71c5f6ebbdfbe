"""Features: pooled vectors from the output of any backbone, and the input size that it takes."""
