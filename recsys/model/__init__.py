"""A model: embeddings as arrays, and as tables."""
