"""Chinese for the sentences of the processor's structures, leaf functions and keys."""

CATALOG: dict[str, str] = {
    # isa
    "reserved bits must be zero: {bits}": "保留位必须为零：{bits}",
    "{leaf} failed with {status} ({number})": "{leaf} 失败：{status}（{number}）",
}
