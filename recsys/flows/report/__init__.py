"""The page that tells people what a run did: made from records and tables alone, without Spark."""
