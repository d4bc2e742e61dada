"""Chinese for the sentences of `sgxkit`: envelopes and `quote inspect`."""

CATALOG: dict[str, str] = {}
