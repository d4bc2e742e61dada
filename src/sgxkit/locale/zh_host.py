"""Chinese for the sentences of `sgxkit`: host."""

CATALOG: dict[str, str] = {}
