"""Learn from labelled pairs: the embeddings, and the map that folds in new users. On the driver.

`matrices` collects the pairs. `training` makes the embeddings of them, with `early_stopping`,
`sample_weights`, `negatives` and `embeddings`; its docstring follows one pair through all of these.
`fold_in_map` then chooses the map, with `fold_in_candidates` and `fold_in_trial`.
"""
