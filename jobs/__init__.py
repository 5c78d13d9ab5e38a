"""The jobs: configuration in, named stages, tables out. Nothing imports them."""
