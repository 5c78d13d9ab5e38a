"""From staged tables to what readers see: versions, the index of versions, gates, retention."""
