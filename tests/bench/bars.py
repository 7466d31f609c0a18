"""What a figure is held against, told beside it: its bar and whether that holds, or that it has none."""

NO_BAR = "no bar"


def at_least(value: float, bar: float, unit: str = "") -> str:
    """Return the bar that a figure must reach, and whether it does."""
    return _told(f">= {bar:g}{unit}", held=value >= bar)


def at_most(value: float, bar: float, unit: str = "") -> str:
    """Return the bar that a figure may not pass, and whether it does not."""
    return _told(f"<= {bar:g}{unit}", held=value <= bar)


def exactly(value: object, bar: object) -> str:
    """Return the only figure that is good, and whether it is this one."""
    return _told(str(bar), held=value == bar)


def _told(bar: str, *, held: bool) -> str:
    return f"bar {bar}: {'held' if held else 'missed'}"
