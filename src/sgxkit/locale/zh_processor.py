"""Chinese for the sentences of the processor's structures, leaf functions and keys."""

CATALOG: dict[str, str] = {
    # isa
    "reserved bits must be zero: {bits}": "保留位必须为零：{bits}",
    "{leaf} failed with {status} ({number})": "{leaf} 失败：{status}（{number}）",
    # faults
    "#GP(0): {problem}": "#GP(0)：{problem}",
    "#PF at {address}: {problem}": "#PF（地址 {address}）：{problem}",
    "nothing is mapped there": "该处没有映射",
    "not an EPC page": "不是 EPC 页",
    "the EPC page is in use": "该 EPC 页已被占用",
    "the EPC page is free": "该 EPC 页未被占用",
    "not a SECS": "不是 SECS",
    "EPCM.{field} is {value}": "EPCM.{field} 为 {value}",
    "EPCM.{field} does not allow an entry": "EPCM.{field} 不允许进入",
    "not a page of this enclave that can be accepted": "不是本 enclave 可以接受的页",
    "no enclave is being executed": "当前没有执行 enclave",
    "{operand} is {address}, not a multiple of {size}": "{operand} 为 {address}，不是 {size} 的倍数",
    "{operand} is {address}, outside the enclave": "{operand} 为 {address}，在 enclave 之外",
    "{field} cannot be {value} here": "{field} 在此不能为 {value}",
    "reserved bytes of SECS are not zero": "SECS 的保留字节不为零",
    "the enclave is initialized already": "该 enclave 已初始化",
    "the enclave is not initialized": "该 enclave 尚未初始化",
    "the TCS is in use by another thread": "该 TCS 正被另一个线程使用",
    "{leaf} is not a leaf function of this processor": "此处理器没有 {leaf} 这一 leaf 功能",
    "{leaf} outside an enclave": "在 enclave 之外执行 {leaf}",
    "{leaf} inside an enclave": "在 enclave 之内执行 {leaf}",
    "IA32_SGXLEPUBKEYHASH cannot be written on this processor": "此处理器不能写入 IA32_SGXLEPUBKEYHASH",
    # loading
    "the EPC is full": "EPC 已满",
    "remove an enclave, or emulate a larger EPC": "请移除一个 enclave，或模拟更大的 EPC",
    # keys
    "KEYREQUEST uses what only enclaves with KSS have": "KEYREQUEST 用到了只有启用 KSS 的 enclave 才有的功能",
}
