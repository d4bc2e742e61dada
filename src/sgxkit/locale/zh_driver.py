"""Chinese for the sentences of the SGX driver."""

CATALOG: dict[str, str] = {
    "the SGX driver says that it did {count} bytes of {length}": "SGX 驱动称完成了 {length} 字节中的 {count} 字节",
    "`sgxkit doctor` says what is missing": "`sgxkit doctor` 会说明缺少什么",
    "there is no free enclave memory (EPC): end other enclaves": "没有空闲的 enclave 内存（EPC）：请结束其他 enclave",
    "there is no SGX device on this computer": "本机没有 SGX 设备",
    "it belongs to a group, often sgx or sgx_prv: be a member of it, and log in again": (
        "它属于某个组，通常是 sgx 或 sgx_prv：请加入该组并重新登录"
    ),
    "a container must be given the device: --device {path}": "容器必须被授予该设备：--device {path}",
    "another program has it to itself": "另一程序独占了它",
    "{path} cannot be opened: {reason}": "无法打开 {path}：{reason}",
    "the processor does not accept the enclave's size, ATTRIBUTES, XFRM or MISCSELECT": (
        "处理器不接受该 enclave 的大小、ATTRIBUTES、XFRM 或 MISCSELECT"
    ),
    "the kernel does not accept the enclave's size, ATTRIBUTES or XFRM": "内核不接受该 enclave 的大小、ATTRIBUTES 或 XFRM",
    "pages with code must come from memory that may be executed": "含代码的页必须来自允许执行的内存",
    "the machine slept, or lost its enclave memory otherwise: create the enclave again": (
        "机器曾经休眠，或因其他原因丢失了 enclave 内存：请重新创建 enclave"
    ),
    "SIGSTRUCT is for another image (`sgxkit enclave verify` tells), or its author may not launch here": (
        "SIGSTRUCT 属于另一映像（`sgxkit enclave verify` 会说明），或其签名者不得在此启动 enclave"
    ),
    "ATTRIBUTES.PROVISIONKEY needs /dev/sgx_provision, which belongs to the group sgx_prv": (
        "ATTRIBUTES.PROVISIONKEY 需要 /dev/sgx_provision，它属于 sgx_prv 组"
    ),
    "{folder} is mounted with noexec: mount -o remount,exec {folder}": (
        "{folder} 以 noexec 挂载：mount -o remount,exec {folder}"
    ),
    "the pages have fewer permissions, or this process has READ_IMPLIES_EXEC": (
        "这些页的权限不足，或本进程设有 READ_IMPLIES_EXEC"
    ),
    "there is no room in the address space: see `ulimit -v` and vm.max_map_count": (
        "地址空间不足：请查看 `ulimit -v` 和 vm.max_map_count"
    ),
    "pages of {path} cannot be mapped: {reason}": "无法映射 {path} 的页：{reason}",
    "this kernel has no such call: Linux 6.0 or newer has it": "本内核没有此调用：Linux 6.0 或更新版本才有",
    "the processor has no SGX2": "处理器没有 SGX2",
    "the pages are not of the kind or state for this, or the enclave is not initialized": (
        "这些页的类型或状态不符，或 enclave 尚未初始化"
    ),
    "the processor refused with status {status}": "处理器以状态 {status} 拒绝",
    "the enclave must accept the change first (EACCEPT)": "enclave 必须先接受该更改（EACCEPT）",
    "{step} was refused: {reason}": "{step} 被拒绝：{reason}",
    "the enclave is not in this process": "该 enclave 不在本进程中",
    "there is no TCS at {address}": "{address} 处没有 TCS",
    "a thread is inside by the TCS at {address}": "有线程正通过 {address} 处的 TCS 在其中运行",
    "the driver of {device} needs a launch token, and nobody gives one": "{device} 的驱动需要 launch token，而没有人提供",
    "use a kernel with its own SGX driver (5.11 or newer)": "请使用自带 SGX 驱动的内核（5.11 或更新版本）",
    "the kernel measures pages whole or not at all; the one at {at} is not": (
        "内核要么度量整页，要么完全不度量；{at} 处的页不是这样"
    ),
    "the driver measures the parts of a page in their order only": "驱动只按顺序度量页的各部分",
    "EINIT was refused with status {status}": "EINIT 以状态 {status} 被拒绝",
    "exception {vector} in the enclave": "enclave 中发生异常 {vector}",
    "the vDSO's function for entering enclaves refuses: {number}": "vDSO 中进入 enclave 的函数拒绝：{number}",
    "a policy forbids code in memory (SELinux: execmem)": "策略禁止内存中的代码（SELinux：execmem）",
    "this process gets no memory: {reason}": "本进程得不到内存：{reason}",
    "there is no such memory at {address}": "{address} 处没有这样的内存",
    "signal {number} cannot be handled": "无法处理信号 {number}",
}
