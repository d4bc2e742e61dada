"""Chinese for the sentences of `sgxkit up` and of the sample enclave."""

CATALOG: dict[str, str] = {
    "the enclave finds that it is not authentic": "enclave 发现它不是真实的",
    "the enclave refuses such a request": "enclave 拒绝这样的请求",
    "the processor had no random number for the enclave": "处理器没有给 enclave 随机数",
    "the enclave answered what it never does: {status}": "enclave 给出了它从不给出的应答：{status}",
    "the enclave was interrupted: {problem}": "enclave 被中断：{problem}",
    "looked for SGX hardware: there is none to use": "查找 SGX 硬件：没有可用的",
    "so a software platform takes its place, with the same formats and protocols": "因此改用软件平台，格式和协议相同",
    "it protects nothing: it is for development and tests": "它不提供任何保护：只用于开发和测试",
    "sgxkit uses SGX hardware through Linux, and this is {system}": "sgxkit 通过 Linux 使用 SGX 硬件，而本系统是 {system}",
    "`sgxkit up --emulated` goes on without hardware; `sgxkit doctor --verbose` shows every check": (
        "`sgxkit up --emulated` 可不用硬件继续；`sgxkit doctor --verbose` 显示每项检查"
    ),
    "this computer has SGX, but it is not ready": "本机有 SGX，但尚未就绪",
    "this computer has no SGX that could be used": "本机没有可用的 SGX",
    "emulated, as you asked for": "按您的要求使用模拟平台",
    "this computer is ready for SGX": "本机的 SGX 已就绪",
    "verified the quote under the root of lab {name}, which is not Intel's": "已在 lab {name} 的根证书下验证 quote，它不是 Intel 的根",
    "an enclave unsealed what was not sealed for it, or was changed": "某个 enclave 解封了不是为它密封的或被改动过的数据",
    "launched the sample enclave in debug and in production mode": "已以调试模式和生产模式启动示例 enclave",
    "MRENCLAVE {measurement}...": "MRENCLAVE {measurement}...",
    "ECALL: it adds 20 and 22 and answers 42, in both modes": "ECALL：它把 20 和 22 相加，两种模式都答 42",
    "sealed {size} bytes to itself, and unsealed them": "已为自身密封 {size} 字节，并解封",
    "its debug twin, its next version and a changed byte are refused": "其调试版、下一版本以及被改动的一个字节均被拒绝",
    "sealed to its author: the next version opens it, another author's not": "为其签名者密封：下一版本可以解封，其他签名者的不能",
    "an enclave verified a report that was made for another": "某个 enclave 验证通过了为另一 enclave 生成的 report",
    "remote attestation: AESM made a quote of it, {size} bytes, version {version}": (
        "远程证明：AESM 为它生成了 quote，{size} 字节，版本 {version}"
    ),
    "fetched the collateral: certificates, CRLs, TCB info, QE identity": "已获取 collateral：证书、CRL、TCB info、QE identity",
    "policy: MRENCLAVE, MRSIGNER, a nonce in REPORTDATA; TCB {status}": (
        "策略：MRENCLAVE、MRSIGNER、REPORTDATA 中的 nonce；TCB {status}"
    ),
    "verified the quote under {anchor}": "已在 {anchor} 下验证 quote",
    "refused the same enclave's quote in debug mode, as it has to be": "同一 enclave 调试模式的 quote 被拒绝，理应如此",
    "verified the quote under {anchor}, which is not Intel's root": "已在 {anchor} 下验证 quote，它不是 Intel 的根",
    "All of it works here, in {seconds:.1f} s, under a root that is not Intel's:": (
        "在此全部可用，用时 {seconds:.1f} 秒，但根证书不是 Intel 的："
    ),
    "that says nothing about real SGX hardware.": "这不能说明真实 SGX 硬件的任何情况。",
    "the report is not the one that was asked for": "report 不是所请求的那个",
    "a debug enclave's quote was not refused for that reason": "调试 enclave 的 quote 没有因此被拒绝",
    "the enclave says {answer}, not {expected}": "enclave 的回答是 {answer}，而不是 {expected}",
    "local attestation: a second enclave verified the first one's REPORT": "本地证明：第二个 enclave 验证了第一个的 REPORT",
    "an enclave that it was not made for could not": "不是目标的 enclave 则无法验证",
    "what was unsealed is not what was sealed": "解封的数据与密封的不同",
    "no temporary folder can be made: {reason}": "无法创建临时目录：{reason}",
    "lab {name}: {machine}, with CAs, AESM and PCS of its own": "lab {name}：{machine}，有自己的 CA、AESM 和 PCS",
    "AESM {aesm}": "AESM {aesm}",
    "PCS  {url}": "PCS  {url}",
    "set {variable} to a folder that can be written": "请将 {variable} 设为可写的目录",
    "launching the sample enclave": "启动示例 enclave",
    "calling it": "调用它",
    "sealing and unsealing": "密封与解封",
    "local attestation": "本地证明",
    "remote attestation: a quote from AESM": "远程证明：从 AESM 获取 quote",
    "fetching the collateral": "获取 collateral",
    "verifying the quote": "验证 quote",
    "refusing a debug enclave's quote": "拒绝调试 enclave 的 quote",
    "unknown EPC": "EPC 大小未知",
    "{size} MiB of EPC": "{size} MiB EPC",
    "{name}: {epc}{sgx2}": "{name}：{epc}{sgx2}",
    "Where to go next": "下一步",
    "AESM and PCS of lab {name} go on running. For other programs:": "lab {name} 的 AESM 和 PCS 继续运行。供其他程序使用：",
    "--hardware goes with none of --emulated, --lab and --keep": "--hardware 不能与 --emulated、--lab、--keep 同用",
    "--pcs, --pccs and --trusted-root go with none of --emulated, --lab and --keep": (
        "--pcs、--pccs、--trusted-root 不能与 --emulated、--lab、--keep 同用"
    ),
    "another process has been keeping a lab for too long": "另一进程占用 lab 的启动过程太久",
    "SGX works on this computer: all of it took {seconds:.1f} s.": "本机的 SGX 可用：全程用时 {seconds:.1f} 秒。",
    "SGX works on an emulated platform here: all of it took {seconds:.1f} s.": "SGX 可在本机的模拟平台上使用：全程用时 {seconds:.1f} 秒。",
    "an enclave of your own": "您自己的 enclave",
    "a quote of your own": "您自己的 quote",
    "this machine launches only what Intel's launch enclave allows: it has no flexible launch control": (
        "本机只启动 Intel 的 launch enclave 所允许的 enclave：它没有灵活启动控制（FLC）"
    ),
    "choose a lab with FLC: `sgxkit lab create NAME --cpu icelake-sp`": (
        "请选用有 FLC 的 lab：`sgxkit lab create NAME --cpu icelake-sp`"
    ),
    "stopped: {reason}": "已停止：{reason}",
    "where AESM and PCS are": "AESM 和 PCS 在哪里",
    "a quote of this lab, to try a verifier with": "此 lab 的 quote，可用来测试验证程序",
    "stops AESM and PCS; `sgxkit lab rm` removes the lab": "停止 AESM 和 PCS；`sgxkit lab rm` 删除该 lab",
    "TCB recovery, revocation, expiry: at a command": "TCB recovery、吊销、过期：一条命令即可",
    "what real hardware would need here": "真实硬件在此还需要什么",
    "leaves AESM and PCS running for your programs": "让 AESM 和 PCS 继续运行，供您的程序使用",
}
