"""Chinese for the sentences of `sgxkit`: cli."""

CATALOG: dict[str, str] = {}
