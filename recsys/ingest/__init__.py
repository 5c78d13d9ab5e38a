"""The configured source to judged rows to deduplicated, labelled pairs."""
