"""Labelled pairs to embeddings, and the map that folds in new users. On the driver."""
