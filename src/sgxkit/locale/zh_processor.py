"""Chinese for the sentences of the processor's structures, leaf functions and keys."""

CATALOG: dict[str, str] = {
    # isa
    "reserved bits must be zero: {bits}": "保留位必须为零：{bits}",
    "{leaf} failed with {status} ({number})": "{leaf} 失败：{status}（{number}）",
    # faults
    "#GP(0): {problem}": "#GP(0)：{problem}",
    "#PF at {address}: {problem}": "#PF（地址 {address}）：{problem}",
    # keys
    "KEYREQUEST uses what only enclaves with KSS have": "KEYREQUEST 用到了只有启用 KSS 的 enclave 才有的功能",
}
