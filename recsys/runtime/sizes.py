"""How numbers of bytes are written wherever people read them."""


def size(count: float) -> str:
    """Return a number of bytes in the unit that fits, such as `14.3 MiB`."""
    for unit, places in (("B", 0), ("KiB", 0), ("MiB", 1)):
        # What would be rounded to 1,024 is one of the next unit.
        if round(count, places) < 1024:
            return f"{count:,.{places}f} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"
