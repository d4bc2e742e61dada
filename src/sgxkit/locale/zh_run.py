"""Chinese for the sentences of `sgxkit run`."""

CATALOG: dict[str, str] = {
    "{program} cannot be run: {reason}": "无法运行 {program}：{reason}",
    "this machine cannot make CPUID fault: programs that ask the processor for SGX will not find it; those that do not ask run": "本机不支持 CPUID 陷入：向处理器查询 SGX 的程序将找不到它；不查询的程序可以运行",
    "system calls from inside enclaves are not seen: {number}": "看不到 enclave 内部发出的系统调用：{number}",
    "programs cannot be traced here: {reason}": "此处无法跟踪程序：{reason}",
    "a container needs the capability SYS_PTRACE; Yama's ptrace_scope must be below 3; what is traced cannot trace": "容器需要 SYS_PTRACE 能力；Yama 的 ptrace_scope 必须小于 3；被跟踪的程序不能再跟踪",
    "the XSAVE area of the SSA frame is not what XFRM allows": "SSA 帧的 XSAVE 区域不符合 XFRM",
    "programs run on x86-64 Linux only": "只能在 x86-64 Linux 上运行程序",
    "an EPC has at least {size} bytes": "EPC 至少 {size} 字节",
    "{path} is not absolute": "{path} 不是绝对路径",
    "{text} cannot be injected": "无法注入 {text}",
    "AEX: interrupt": "AEX：中断",
    "AEX: exception {vector}": "AEX：异常 {vector}",
    "EPC: {used} of {total} pages at most": "EPC：最多使用 {used} 页，共 {total} 页",
    "create, add and init, each with =ERRNO if you like; aesm; quote": "create、add、init，可各加 =ERRNO；aesm；quote",
    "thread {tid}: {entries} entries, {inside} s inside, {outside} s outside": "线程 {tid}：进入 {entries} 次，内部 {inside} 秒，外部 {outside} 秒",
    "OCALL {index}, {name}": "OCALL {index}，{name}",
    "EEXIT with {index} in RDI: an OCALL of the SDK": "EEXIT，RDI 为 {index}：SDK 的 OCALL",
}
