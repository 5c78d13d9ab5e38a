"""From staged tables to what readers see: versions, the catalogue that names them, retention."""
