"""Chinese for the sentences of the engine that runs enclave code."""

CATALOG: dict[str, str] = {
    "exception {vector} at {address}": "异常 {vector}（位于 {address}）",
    "the enclave ran longer than it may, up to {address}": "enclave 的运行超过了限额，执行到 {address}",
    "code outside the enclave at {address}": "{address} 处的代码在 enclave 之外",
    "{address} is not canonical": "{address} 不是规范地址",
    "the enclave needs XFRM {xfrm}; its code can be run with 3 only (x87 and SSE)": "该 enclave 需要 XFRM {xfrm}；其代码只能以 3（x87 和 SSE）运行",
    "the enclave has no page at {address}": "enclave 在 {address} 处没有页面",
    "the enclave is in production mode: its memory cannot be read": "该 enclave 处于生产模式：其内存不可读取",
    "sign it with an XFRM of 3, or with an XFRM mask that allows it": "请以 XFRM 为 3 签名，或使用允许 XFRM 为 3 的掩码签名",
    "not a page that can be debugged": "不是可调试的页面",
    "the enclave is not a debug enclave": "该 enclave 不是调试 enclave",
    "nothing can be read at {address}: {reason}": "无法读取 {address}：{reason}",
    "{leaf} gave {status}": "{leaf} 返回 {status}",
}
