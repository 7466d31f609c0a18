"""Everything that stands in for the outside world. It may import every room; no room imports it."""
